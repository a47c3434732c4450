"""Nanoseconds a weight from packed codes to a weight in place, at every width.

    python -m tests.benchmarks.bench_unpack

CPU seconds of one thread, medians of turns in which everything runs once: so what else
is at work on the machine hits all alike. `sum`, `unpack`, `dequantize` and `copy` are
the steps one by one, each on the whole matrix (`steps` is all of them); `put` is what a
swap does, in chunks that stay in cache, the checksum compared before. The row of `awq`
has a scale for each channel.
"""

from __future__ import annotations

import argparse
from statistics import median
from time import process_time
from typing import TYPE_CHECKING

import torch

from allocator.core.allocation import Scheme
from quant.cells import checksum
from quant.grid import LOW_WIDTHS, dequantize, round_to_nearest
from quant.packed import PackedCell
from quant.packing import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

    from quant.grid import Cell

SHOWN = ("pack", "sum", "unpack", "dequantize", "copy", "steps", "put")
KINDS = {
    "asymmetric 128": Scheme(),
    "symmetric 64": Scheme(64, symmetric=True),
    "channel": Scheme("channel"),
    "awq": Scheme(),
}


def seconds(run: Callable[[], object]) -> float:
    """Of this process, for one run."""
    start = process_time()
    run()
    return process_time() - start


def row(cell: Cell, repeats: int) -> dict[str, float]:
    """Seconds of each step."""
    packed, out = PackedCell.of(cell), torch.empty(cell.codes.shape)
    whole = dequantize(cell)
    runs: dict[str, Callable[[], object]] = {
        "pack": lambda: PackedCell.of(cell),
        "sum": lambda: checksum(packed.codes),
        "unpack": lambda: unpack(packed.codes, cell.bits, cell.codes.shape),
        "dequantize": lambda: dequantize(cell),
        "copy": lambda: out.copy_(whole),
        "put": lambda: packed.write_(out),
    }
    for run in runs.values():
        run()
    assert torch.equal(out, whole)
    turns = [{k: seconds(run) for k, run in runs.items()} for _ in range(repeats)]
    found = {key: median(turn[key] for turn in turns) for key in runs}
    found["steps"] = sum(found[k] for k in ("sum", "unpack", "dequantize", "copy"))
    return found


def made(kind: str, bits: int, rows: int, columns: int) -> Cell:
    """A cell of random weights."""
    random = torch.Generator().manual_seed(0)
    cell = round_to_nearest(
        torch.randn(rows, columns, generator=random), KINDS[kind], bits
    )
    if kind != "awq":
        return cell
    scale = torch.rand(columns, generator=random).add_(0.5).half()
    return type(cell)(**{**vars(cell), "channel_scale": scale})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    count = given.rows * given.columns
    print(f"{given.rows} x {given.columns}, median ns a weight of one thread")
    print(f"{'':18}bits" + "".join(f"{name:>11}" for name in SHOWN))
    for kind in KINDS:
        for bits in LOW_WIDTHS:
            cell = made(kind, bits, given.rows, given.columns)
            found = row(cell, given.repeats)
            told = "".join(f"{found[name] / count * 1e9:11.2f}" for name in SHOWN)
            print(f"{kind:18}{bits:4d}{told}")


if __name__ == "__main__":
    main()
