"""Matrix products that come out the same whatever the number of threads.

A library that multiplies on several threads may cut a long sum into a piece for each,
and then rounds otherwise. Sums of up to `LONGEST` terms are left whole, so longer ones
are added up here in pieces of that length, always in the same order. Nothing is scaled
on the way: with a factor other than 1 or -1 even short sums differed. An accelerator
has no threads of ours, and gets each product in one piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

# terms. With MKL on 1 to 4 threads, in float32 and float64, products of 16 to 2304 rows
# and columns never differed up to 256 terms; at 384 some did (LAPACK's Cholesky factors
# did from 192 rows on, products with a vector from 128 terms on)
LONGEST = 256


def product(left: Tensor, right: Tensor) -> Tensor:
    """Left [m, k] @ right [k, n]: [m, n]."""
    first, *rest = _pieces(left)
    total = left[:, first] @ right[first]
    for here in rest:
        total.addmm_(left[:, here], right[here])
    return total


def add_product_(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add left [m, k] @ right [k, n] to `total` [m, n]."""
    for here in _pieces(left):
        total.addmm_(left[:, here], right[here])
    return total


def subtract_product_(total: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Subtract left [m, k] @ right [k, n] from `total` [m, n]."""
    for here in _pieces(left):
        total.addmm_(left[:, here], right[here], alpha=-1)
    return total


def weighted_sum(weights: Tensor, rows: Tensor) -> Tensor:
    """Weights [k] @ rows [k, n]: [n]; the rows are used up."""
    return rows.mul_(weights.unsqueeze(1)).sum(0)


def _pieces(left: Tensor) -> Iterator[slice]:
    """Columns of [m, k] that are summed at once; one piece, of none, where k is 0."""
    terms = max(left.shape[1], 1)
    longest = LONGEST if left.device.type == "cpu" else terms
    return (slice(at, at + longest) for at in range(0, terms, longest))
