"""One column after the other, each handed on to those behind, in large products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quant.products import subtract_product_

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# columns that are corrected one by one; further ones get matrix products. Group sizes
# are multiples of it, so a group starts on corrected weights
SUB_BLOCK = 16


@dataclass(frozen=True)
class Blocks:
    """What replaces several columns at once, and corrects those behind among them.

    Attributes:
        size: a power of two, `SUB_BLOCK` or more; divides the columns of a group.
        replace: is given the numbers of the first column and of the one behind them.
    """

    size: int
    replace: Callable[[int, int], None]


def sweep(
    columns: Tensor,
    factor: Tensor,
    replace: Callable[[int, Tensor], None],
    start: int,
    stop: int,
    *,
    blocks: Blocks | None = None,
) -> None:
    """Replace columns by their errors, from left to right, correcting those behind.

    Half of a span is done first and all its errors reach the other half in one matrix
    product: few and large products, and each error is kept in the place of the column
    that it belongs to. Halves are powers of two, so no group lies across a cut before
    it is entered.

    Args:
        columns: [n, rows], one column of the matrices each; changed.
        factor: [n, n], its upper triangle: what each leaves to those behind it.
        replace: is given the number of a column, and changes it.
        start: the first one.
        stop: behind the last one.
        blocks: does the same for several, in place of `replace`.
    """
    size = blocks.size if blocks else SUB_BLOCK
    if blocks and stop - start <= size:
        blocks.replace(start, stop)
        return
    if stop - start <= size:
        for at, column in enumerate(columns[start:stop].unbind(), start):
            replace(at, column)
            if at + 1 < stop:
                rest = slice(at + 1, stop)
                columns[rest].addr_(factor[at, rest], column, alpha=-1)
        return
    half = size
    while 2 * half < stop - start:
        half *= 2
    done, rest = slice(start, start + half), slice(start + half, stop)
    sweep(columns, factor, replace, start, start + half, blocks=blocks)
    subtract_product_(columns[rest], factor[done, rest].T, columns[done])
    sweep(columns, factor, replace, start + half, stop, blocks=blocks)
