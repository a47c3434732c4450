"""How fast AWQ is searched, and how well, beside autoawq's own search.

    python -m tests.benchmarks.bench_awq --threads 1 --shapes 2560x2560,1408x6144

Both see the same weights, groups of 128, and the same tokens: autoawq their
activations, with all its defaults, ours their Hessian, whose making has a row of its
own. autoawq's search for a scale grows with the tokens (by default it takes 128 x 512);
ours does not, only the Hessian does.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from allocator.core.allocation import Scheme
from quant.grid import LOW_WIDTHS, dequantize, round_to_nearest
from quant.hessian import InputStatistics
from quant.methods.awq import PLUGIN
from tests.quant.peers_awq import AutoAwq, activations, gaussian, load_autoawq

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

Made = TypeVar("Made")
# how far the loudness of inputs spreads, in powers of e
SPREAD = 1.0


@dataclass(frozen=True)
class Layer:
    """A linear, tokens that calibration sees [n, in], and as many that it does not."""

    weight: Tensor
    seen: Tensor
    unseen: Tensor


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: who did what.
        seconds: how long it took.
        seen: squared error of the outputs over the outputs squared.
        unseen: the same on the other tokens.
    """

    name: str
    seconds: float
    seen: float | None = None
    unseen: float | None = None


def make_layer(outputs: int, features: int, tokens: int) -> Layer:
    """Gaussian weights, and correlated inputs of very different loudness."""
    x = activations(features, SPREAD, 2 * tokens)
    weight = 0.02 * gaussian(outputs, features, seed=5)
    return Layer(weight, x[:tokens], x[tokens:])


def timed(run: Callable[[], Made]) -> tuple[Made, float]:
    """What something gives, and the seconds it takes."""
    start = time.perf_counter()
    made = run()
    return made, time.perf_counter() - start


def judge(name: str, seconds: float, layer: Layer, made: Tensor) -> Row:
    """A row with the errors of effective weights."""
    seen, unseen = (
        float((x @ (made - layer.weight).T).square().sum())
        / float((x @ layer.weight.T).square().sum())
        for x in (layer.seen, layer.unseen)
    )
    return Row(name, seconds, seen, unseen)


def ours(layer: Layer, bits: int, *, foldable: bool) -> list[Row]:
    """The rows of our method."""
    scheme, inputs = Scheme(), InputStatistics.empty(layer.weight.shape[1])
    _, counting = timed(lambda: inputs.add(layer.seen))

    def quantize(*widths: int) -> Tensor:
        cells = PLUGIN.quantize(
            [layer.weight], inputs, scheme, widths, foldable=foldable
        )
        return dequantize(cells[bits][0])

    plain, rounding = timed(
        lambda: dequantize(round_to_nearest(layer.weight, scheme, bits))
    )
    one, alone = timed(lambda: quantize(bits))
    _, together = timed(lambda: quantize(*LOW_WIDTHS))
    return [
        judge("rounding", rounding, layer, plain),
        Row("ours: Hessian of these tokens", counting),
        judge(f"ours: {bits} bits", alone, layer, one),
        Row("ours: all six widths", together),
    ]


def peer(layer: Layer, bits: int, *, foldable: bool) -> list[Row]:
    """autoawq's row, if it is installed."""
    package = load_autoawq()
    if package is None:
        return []
    search = AutoAwq(package, duo=True)
    (made,), seconds = timed(
        lambda: search.solve([layer.weight], layer.seen, bits, foldable=foldable)
    )
    return [judge(f"autoawq: {bits} bits", seconds, layer, made)]


def show(title: str, rows: list[Row]) -> None:
    """Print a table."""
    print(
        f"\n{title}\n\n| | seconds | error, tokens seen | unseen |\n|---|---|---|---|"
    )
    for row in rows:
        seen, unseen = (
            "" if error is None else f"{error:.4e}" for error in (row.seen, row.unseen)
        )
        print(f"| {row.name} | {row.seconds:.2f} | {seen} | {unseen} |")
    found = {row.name.split(" ")[0]: row for row in rows if "bits" in row.name}
    if "autoawq:" in found:
        mine, other = found["ours:"], found["autoawq:"]
        assert mine.seen and other.seen and mine.unseen and other.unseen  # noqa: PT018
        print(
            f"\n{other.seconds / mine.seconds:.0f} x faster (>= 5), error "
            f"x {mine.seen / other.seen:.3f} (<= 1.01), "
            f"on unseen tokens x {mine.unseen / other.unseen:.3f}",
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", default="2560x2560,1408x6144", help="OUTxIN,...")
    parser.add_argument("--bits", default="4", help="widths to compare, 4,...")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--clip-only", action="store_true", help="no scales")
    parser.add_argument("--out", type=Path, help="also write everything as JSON")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
    results = []
    for shape in asked.shapes.split(","):
        outputs, features = map(int, shape.split("x"))
        layer = make_layer(outputs, features, asked.tokens)
        for bits in map(int, asked.bits.split(",")):
            foldable = not asked.clip_only
            rows = ours(layer, bits, foldable=foldable)
            rows += peer(layer, bits, foldable=foldable)
            title = f"{shape}, {bits} bits, {asked.tokens:,} tokens"
            show(f"{title}, {asked.threads} threads", rows)
            results.append(
                {
                    "shape": shape,
                    "bits": bits,
                    "tokens": asked.tokens,
                    "threads": asked.threads,
                    "foldable": foldable,
                    "rows": [asdict(row) for row in rows],
                }
            )
    if asked.out:
        asked.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
