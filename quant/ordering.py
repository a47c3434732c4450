"""Orders in which inputs are rounded, so that little is left that nobody makes up for.

GPTQ rounds one input after the other, and those that follow make up for its error.
What an error then costs is the pivot of the Hessian at its place. The product of all
pivots is the same in every order, so their sum is small where they are alike: as the
first ones are made up for by many, the last ones should be the quietest. This is the
sorted decomposition of lattice decoders (Wubben et al., Electronics Letters 37, 2001),
one of which GPTQ is (arXiv 2507.18553).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from quant.chunks import kernels_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def by_loudness(hessian: Tensor, shared: int) -> Tensor:
    """Groups by falling loudness, and so the inputs of each.

    The loudness of a group is the sum of its diagonal: groups stay together, so that
    each has its grid fitted when its turn comes, on what is left to it.

    Args:
        hessian: [in, in].
        shared: neighbouring inputs in a group; divides their number.

    Returns:
        [in] indices.

    >>> by_loudness(torch.diag(torch.tensor([1.0, 2.0, 2.0, 9.0])), 2).tolist()
    [3, 2, 1, 0]
    """
    loud = hessian.diagonal().reshape(-1, shared)
    groups = loud.sum(1).argsort(descending=True, stable=True)
    inside = loud[groups].argsort(dim=1, descending=True, stable=True)
    return (groups.unsqueeze(1) * shared + inside).flatten()


def smallest_first(matrix: Tensor, stops: Sequence[int]) -> Tensor:
    """The order of elimination that takes the smallest pivot there is, span by span.

    Args:
        matrix: [n, n], symmetric.
        stops: where the spans end, the last one at n.

    Returns:
        [n] indices, on any device. In the order as it is where pivots are no numbers:
        such a matrix has no factor in any order.
    """
    kernels = kernels_for(matrix)
    if kernels:
        found: Tensor = kernels.smallest_first(matrix, stops)
        return found
    # one row at a time, which an accelerator is slow at
    rest = matrix.to("cpu", copy=True)
    pivots, chosen, start = rest.diagonal(), [], 0
    for stop in stops:
        left = pivots[start:stop]
        for _ in range(start, stop):
            row = int(left.argmin()) + start
            chosen.append(row)
            column = rest[row].clone()
            rest.addr_(column, column / column[row], alpha=-1)
            pivots[row] = math.inf
        start = stop
    if len(set(chosen)) < len(chosen):
        chosen = list(range(len(chosen)))
    return torch.tensor(chosen)
