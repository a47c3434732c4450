"""How fast GPTQ solves all widths at once, and whether its codes are those of the loop.

    python -m tests.benchmarks.bench_gptq --threads 1,2 --shapes 2560x2560,1408x6144

Every row of a table sees the same weights, activations and Hessian. auto-gptq is driven
as its users do, once for each width; the time that it spends in its three
factorization calls is measured inside and subtracted for the row without them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import torch

from allocator.core.allocation import Scheme
from quant.grid import LOW_WIDTHS, Cell, affine, dequantize
from quant.hessian import InputStatistics, inverse_factor, total_error
from quant.methods._columns import Route
from quant.methods._gptq import STATIC_BITS, Gptq, Part, solve_parts
from tests.quant.peers import AutoGptq, load_auto_gptq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

BLOCK = 128
PRODUCT, FACTOR = "matrix product of the stacked shape", "factorization"
SOLVE = "solve, six widths stacked"
SEARCHED = "solve with ranges searched, then polished"
WHOLE = "quantize: all of this, and compared with rounding"
LOOP, PEER = "loop per width", "auto-gptq per width"
PEER_LOOP = "auto-gptq per width, without factorizations"


@dataclass(frozen=True)
class Layer:
    """A linear with what calibration would know of it."""

    weight: Tensor
    hessian: Tensor


def make_layer(outputs: int, features: int, device: str = "cpu") -> Layer:
    """Weights whose inputs differ in scale, inputs that are correlated and not alike.

    A quarter of the variance of the inputs lies in 256 common directions, and their
    loudness spreads over a factor of e in both directions.
    """
    seed = torch.Generator().manual_seed(outputs + features)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=seed)

    weight = 0.02 * normal(outputs, features) * torch.exp(0.3 * normal(1, features))
    loud, mixing = torch.exp(0.5 * normal(1, features)), normal(256, features) / 16
    hessian, tokens = torch.zeros(features, features), 0
    while tokens < 2 * features:
        x = (normal(1024, 256) @ mixing * 0.6 + normal(1024, features)) * loud
        hessian.addmm_(x.T, x)
        tokens += len(x)
    return Layer(weight.to(device), (hessian * (2 / tokens)).to(device))


def loop_per_width(weight: Tensor, factor: Tensor, scheme: Scheme, bits: int) -> Cell:
    """GPTQ as its paper and auto-gptq write it: one width, blocks of 128 columns.

    Args:
        weight: [out, in].
        factor: [in, in] upper factor of the inverse Hessian; its dtype is used.
        scheme: group size and symmetry.
        bits: width.
    """
    rest = weight.to(factor.dtype).clone()
    features, shared = weight.shape[1], scheme.columns(weight.shape[1])
    levels = torch.tensor(2.0**bits - 1, dtype=factor.dtype, device=weight.device)
    codes, grids = torch.empty_like(weight, dtype=torch.uint8), []
    for start in range(0, features, BLOCK):
        stop = min(start + BLOCK, features)
        block = rest[:, start:stop].clone()
        errors = torch.zeros_like(block)
        for i in range(stop - start):
            at = start + i
            if at % shared == 0:
                group = block[:, i : i + shared] if shared <= BLOCK else rest
                if bits <= STATIC_BITS:
                    group = weight[:, at : at + shared].to(factor.dtype)
                grid = affine(group.amin(1), group.amax(1), levels, scheme)
                grids.append(grid)
                scale, zero = grid[0].to(factor.dtype), grid[1]
            column = block[:, i]
            code = torch.clamp(torch.round(column / scale) + zero, 0, 2**bits - 1)
            codes[:, at] = code
            error = (column - (code - zero) * scale) / factor[at, at]
            block[:, i:] -= error.unsqueeze(1) @ factor[at, at:stop].unsqueeze(0)
            errors[:, i] = error
        rest[:, stop:] -= errors @ factor[start:stop, stop:]
    scales, zeros = (torch.stack(part, 1) for part in zip(*grids, strict=True))
    zeros = None if scheme.symmetric else zeros.to(torch.uint8)
    return Cell(codes=codes, scale=scales, zero=zeros, columns=shared, bits=bits)


def loops_per_width(weight: Tensor, factor: Tensor, scheme: Scheme) -> list[Cell]:
    """The loop, run once for each width."""
    return [loop_per_width(weight, factor, scheme, bits) for bits in LOW_WIDTHS]


def solve_stacked(
    weight: Tensor, route: Route, scheme: Scheme, *, search: bool
) -> list[Part]:
    """All widths of one matrix as rows of one problem."""
    parts = [Part.of(weight, scheme, bits) for bits in LOW_WIDTHS]
    solve_parts(parts, scheme, route, search=search)
    return parts


@dataclass(frozen=True)
class Agreement:
    """How the codes of a cell compare with those of another.

    Attributes:
        equal: share of equal codes.
        rows: share of rows that are equal as a whole.
        first: largest difference in the column where a row parts.
        furthest: largest difference of all.
        error: Hessian-weighted error over that of the other.
    """

    equal: float
    rows: float
    first: int
    furthest: int
    error: float


def agreement(cell: Cell, other: Cell, layer: Layer) -> Agreement:
    """One cell of a layer against another."""
    off = (cell.codes.int() - other.codes.int()).abs()
    parted = off[off.any(1)]
    first = parted.gather(1, (parted > 0).int().argmax(1, keepdim=True))
    error, base = (
        total_error(dequantize(each) - layer.weight, layer.hessian)
        for each in (cell, other)
    )
    return Agreement(
        equal=float((off == 0).double().mean()),
        rows=1 - len(parted) / len(off),
        first=int(first.max()) if len(parted) else 0,
        furthest=int(off.max()),
        error=error / base,
    )


def agreements(layer: Layer, scheme: Scheme) -> dict[int, dict[str, Agreement]]:
    """For each width, whose codes compare how with those of the loop."""
    route = Route.of(layer.hessian)
    factor = route.factor
    parts = solve_stacked(layer.weight, route, scheme, search=False)
    loops = loops_per_width(layer.weight, factor, scheme)
    # the same numbers, but without rounding on the way
    exact = loops_per_width(layer.weight, factor.double(), scheme)
    return {
        part.bits: {
            "solve and loop": agreement(part.cell, loop, layer),
            "solve and float64 loop": agreement(part.cell, best, layer),
            "loop and float64 loop": agreement(loop, best, layer),
        }
        for part, loop, best in zip(parts, loops, exact, strict=True)
    }


@contextmanager
def timed_inside(owner: object, name: str, spent: list[float]) -> Iterator[None]:
    """Add up the seconds that a function takes while something else runs."""
    inner = getattr(owner, name)

    def timed(*args: object, **options: object) -> object:
        start = clock()
        try:
            return inner(*args, **options)
        finally:
            spent.append(clock() - start)

    with patch.object(owner, name, timed):
        yield


def clock() -> float:
    """Seconds, once all that was begun is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(run: Callable[[], object]) -> float:
    """How long something takes."""
    start = clock()
    run()
    return clock() - start


def run_peer(layer: Layer, scheme: Scheme) -> tuple[float, float]:
    """Seconds of auto-gptq at all widths, and those without its factorizations."""
    package = load_auto_gptq()
    if package is None:
        return float("nan"), float("nan")
    spent: list[float] = []
    with (
        timed_inside(torch.linalg, "cholesky", spent),
        timed_inside(torch, "cholesky_inverse", spent),
    ):
        whole = 0.0
        for bits in LOW_WIDTHS:
            peer = AutoGptq(package, scheme, static=bits <= STATIC_BITS, half=False)
            whole += seconds(lambda: peer.solve(layer.weight, layer.hessian, bits))  # noqa: B023
    return whole, whole - sum(spent)


def measure(layer: Layer, scheme: Scheme, repeats: int) -> dict[str, float]:
    """Median seconds of each row, all of them in turn in every repeat."""
    weight, hessian = layer.weight, layer.hessian
    inputs = InputStatistics(hessian, hessian.diagonal(), 1)
    route = Route.of(hessian)
    factor = route.factor
    stacked = torch.cat([weight] * len(LOW_WIDTHS))
    runs: dict[str, Callable[[], object]] = {
        PRODUCT: lambda: stacked @ factor,
        FACTOR: lambda: inverse_factor(hessian),
        SOLVE: lambda: solve_stacked(weight, route, scheme, search=False),
        SEARCHED: lambda: solve_stacked(weight, route, scheme, search=True),
        WHOLE: lambda: Gptq().quantize([weight], inputs, scheme, LOW_WIDTHS),
        LOOP: lambda: loops_per_width(weight, factor, scheme),
    }
    taken: dict[str, list[float]] = {name: [] for name in (*runs, PEER, PEER_LOOP)}
    for _ in range(repeats):
        for name, run in runs.items():
            taken[name].append(seconds(run))
        for name, spent in zip((PEER, PEER_LOOP), run_peer(layer, scheme), strict=True):
            taken[name].append(spent)
    return {name: statistics.median(values) for name, values in taken.items()}


def promises(took: dict[str, float], threads: int) -> list[tuple[str, float, str]]:
    """What is compared, the ratio measured, and what it should be."""
    solve, most = took[SOLVE], 1.6 if threads == 1 else 2.0
    both = solve + took[FACTOR]
    return [
        ("solve over matrix product", solve / took[PRODUCT], f"<= {most}"),
        ("loop per width over solve", took[LOOP] / solve, ">= 2.2"),
        ("auto-gptq over solve and factorization", took[PEER] / both, ">= 2.5"),
        ("the same without factorizations", took[PEER_LOOP] / solve, ""),
        ("search and polish over solve", took[SEARCHED] / solve - 1, ""),
    ]


def same_in_double(outputs: int, features: int) -> bool:
    """Whether all codes are the loop's where everything is in float64."""
    layer, scheme = make_layer(outputs, features), Scheme()
    route = Route.of(layer.hessian.double())
    parts = solve_stacked(layer.weight, route, scheme, search=False)
    loops = loops_per_width(layer.weight, route.factor, scheme)
    return all(p.cell.codes.equal(x.codes) for p, x in zip(parts, loops, strict=True))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shapes", default="2560x2560,1408x6144", help="OUTxIN,...")
    parser.add_argument("--threads", default="1,2", help="numbers of threads")
    parser.add_argument("--repeats", type=int, default=3, help="medians are of these")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--skip-codes", action="store_true", help="measure time alone")
    parser.add_argument("--out", type=Path, help="also write everything as JSON")
    asked = parser.parse_args()
    same = same_in_double(256, 256)
    print(f"{platform.machine()}, torch {torch.__version__}, groups of 128")
    print(f"256x256 in float64: all codes of six widths equal: {same}")
    results = []
    for shape in asked.shapes.split(","):
        outputs, features = map(int, shape.split("x"))
        layer = make_layer(outputs, features, asked.device)
        found = {} if asked.skip_codes else agreements(layer, Scheme())
        show_agreements(shape, found)
        for threads in map(int, asked.threads.split(",")):
            torch.set_num_threads(threads)
            took = measure(layer, Scheme(), asked.repeats)
            kept = promises(took, threads)
            show_times(shape, threads, took, kept)
            ratios = {name: ratio for name, ratio, _ in kept}
            result = {"shape": shape, "threads": threads, "seconds": took}
            results.append({**result, "ratios": ratios, "codes": as_data(found)})
    if asked.out:
        asked.out.write_text(json.dumps(results, indent=1) + "\n")


def as_data(found: dict[int, dict[str, Agreement]]) -> dict[str, object]:
    """Plain values for JSON."""
    return {
        str(bits): {pair: asdict(each) for pair, each in pairs.items()}
        for bits, pairs in found.items()
    }


def show_agreements(shape: str, found: dict[int, dict[str, Agreement]]) -> None:
    """Print one line for each width and pair."""
    if found:
        print(f"\n{shape}, codes: equal >= 99.9 %, error within 0.1 %")
    for bits, pairs in found.items():
        for pair, each in pairs.items():
            print(
                f"  {bits} bits, {pair:23s} {100 * each.equal:8.4f} % equal, "
                f"{100 * each.rows:6.2f} % of rows, first difference {each.first}, "
                f"furthest {each.furthest}, error x {each.error:.6f}"
            )


def show_times(
    shape: str, threads: int, took: dict[str, float], kept: list[tuple[str, float, str]]
) -> None:
    """Print seconds and ratios."""
    print(f"\n{shape}, {threads} threads, median seconds")
    for name, value in took.items():
        print(f"  {name:50s} {value:8.2f}")
    for name, ratio, bound in kept:
        print(f"  {name:50s} {ratio:8.2f}  {bound}")


if __name__ == "__main__":
    main()
