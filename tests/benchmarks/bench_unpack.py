"""Milliseconds to pack, unpack and read back one matrix, at every width.

    python -m tests.benchmarks.bench_unpack --threads 1

Medians; the spread on a shared machine is large, so let nothing else run. The last
column goes from packed codes to weights, as a bank does when a cell is first used.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from allocator.core.allocation import Scheme
from quant.grid import LOW_WIDTHS, Cell, decode, round_to_nearest
from quant.packing import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """Median over some runs, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return 1000 * median(times)


def read_back(packed: torch.Tensor, cell: Cell) -> torch.Tensor:
    return decode(unpack(packed, cell.bits, cell.codes.shape), cell)


def row(bits: int, rows: int, columns: int, repeats: int) -> list[float]:
    """Times to pack, to unpack, and to dequantize packed codes."""
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    cell = round_to_nearest(weight, Scheme(), bits)
    packed = pack(cell.codes, bits)
    runs: list[Callable[[], object]] = [
        lambda: pack(cell.codes, bits),
        lambda: unpack(packed, bits, cell.codes.shape),
        lambda: read_back(packed, cell),
    ]
    return [milliseconds(run, repeats) for run in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=2560)
    parser.add_argument("--columns", type=int, default=2560)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.rows} x {given.columns} codes, {given.threads} threads, median ms")
    print("bits    pack  unpack  dequantize")
    for bits in LOW_WIDTHS:
        times = row(bits, given.rows, given.columns, given.repeats)
        print("{:4d}{:8.2f}{:8.2f}{:12.2f}".format(bits, *times))


if __name__ == "__main__":
    main()
