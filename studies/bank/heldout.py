"""Output error on samples that calibration has not seen: our methods and their peers.

    python -m studies.bank.heldout --out studies/results/heldout.json

Statistics and activations come from the calibration split of the embedded models and
errors from their search split: ||(W - Q) X||^2 / ||W X||^2 of all linears that read one
input, averaged over these sets. The peers are autoawq and auto-gptq as they are, in
float32 throughout. A method should be at most 1.01 x its peers, never above rounding.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.prepare import prepare
from allocator.core.allocation import Scheme
from allocator.core.plugins import available, load
from allocator.core.study import StudySpec
from quant.grid import LOW_WIDTHS, dequantize
from quant.hessian import InputStatistics, output_error
from tests.quant.peers import AutoGptq, load_auto_gptq
from tests.quant.peers_awq import AutoAwq, load_autoawq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from allocator.core.ports import Model, Sample, Stage

    # effective weights of a set at a width, made with a peer's package
    Solve = Callable[[Any, "Set", Scheme, int], list[Tensor]]

MODELS = ("tiny-blip2", "tiny-llava")
BATCH = 250
MOST = 1.01


@dataclass(frozen=True)
class Set:
    """Linears that read one input.

    Attributes:
        weights: matrices [out_i, in].
        foldable: whether a scale of their input can be folded away.
        seen: [tokens, in], what calibration shows them.
        inputs: statistics of that.
        unseen: [in, in], Hessian of other samples.
    """

    weights: tuple[Tensor, ...]
    foldable: bool
    seen: Tensor
    inputs: InputStatistics
    unseen: Tensor

    def error(self, made: Sequence[Tensor]) -> float:
        """Squared output error over the squared outputs, on unseen samples."""
        off, all_ = 0.0, 0.0
        for result, weight in zip(made, self.weights, strict=True):
            off += float(output_error(result - weight, self.unseen).sum())
            all_ += float(output_error(weight, self.unseen).sum())
        return off / all_


@dataclass(frozen=True)
class Comparison:
    """A method of ours and those that others wrote.

    Attributes:
        method: its key.
        package: loads the peers' package; None where it is not installed.
        peers: for each name, what quantizes with that package.
    """

    method: str
    package: Callable[[], Any]
    peers: Mapping[str, Solve]


def autoawq(*, duo: bool) -> Solve:
    """The search of autoawq; `duo`, its default, has the weights in the scales too."""

    def solve(package: Any, one: Set, scheme: Scheme, bits: int) -> list[Tensor]:
        columns = scheme.columns(one.seen.shape[1])
        peer = AutoAwq(package, columns, duo=duo)
        return peer.solve(one.weights, one.seen, bits, foldable=one.foldable)

    return solve


def auto_gptq(**settings: bool) -> Solve:
    """The solver of auto-gptq."""

    def solve(package: Any, one: Set, scheme: Scheme, bits: int) -> list[Tensor]:
        peer = AutoGptq(package, scheme, half=False, **settings)
        return [peer.solve(w, one.inputs.hessian, bits).weight for w in one.weights]

    return solve


COMPARISONS = (
    Comparison(
        "awq",
        load_autoawq,
        {"autoawq": autoawq(duo=True), "autoawq, plain scales": autoawq(duo=False)},
    ),
    Comparison(
        "gptq",
        load_auto_gptq,
        {
            "auto-gptq": auto_gptq(),
            "auto-gptq, static": auto_gptq(static=True),
            "auto-gptq, act-order": auto_gptq(static=True, act_order=True),
        },
    ),
)


@torch.no_grad()
def record(model: Model, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """What the first linear of each set reads, without padding: [tokens, in]."""
    read: dict[str, list[Tensor]] = defaultdict(list)
    for at in range(0, len(samples), BATCH):
        state = model.inputs(samples[at : at + BATCH], answered=True)
        attended = state["attention_mask"].bool()
        for stage in model.stages():
            hooks = [
                model.module.get_submodule(siblings.names[0]).register_forward_pre_hook(
                    keep(read[siblings.names[0]], stage, attended)
                )
                for siblings in stage.siblings
            ]
            state = stage.run(state)
            for hook in hooks:
                hook.remove()
    return {name: torch.cat(parts) for name, parts in read.items()}


def keep(into: list[Tensor], stage: Stage, attended: Tensor) -> Any:
    """A hook that keeps what a linear reads."""

    def hook(_: Any, args: tuple[Tensor, ...]) -> None:
        (x,) = args
        if stage.component == "language":
            # OPT flattens batch and tokens before its feed-forward linears
            x = x[attended if x.dim() == 3 else attended.flatten()]
        into.append(x.reshape(-1, x.shape[-1]).float().clone())

    return hook


def sets(name: str) -> Iterator[Set]:
    """All sets of a model."""
    setup = prepare(StudySpec(budget="4.0", task="vqav2", model=name, device="cpu"))
    model = setup.family.load(setup.folder, setup.device)
    seen, unseen = (
        record(model, setup.samples[split]) for split in ("calibration", "search")
    )
    for stage in model.stages():
        for siblings in stage.siblings:
            first = siblings.names[0]
            inputs, others = statistics(seen[first]), statistics(unseen[first])
            weights = tuple(
                model.module.get_submodule(one).weight.detach()
                for one in siblings.names
            )
            foldable = siblings.fold is not None
            yield Set(weights, foldable, seen[first], inputs, others.hessian)


def statistics(x: Tensor) -> InputStatistics:
    """Statistics of [tokens, in]."""
    inputs = InputStatistics.empty(x.shape[1])
    inputs.add(x)
    return inputs


def ours(method: str, one: Set, scheme: Scheme) -> dict[int, float]:
    """Error of a method of ours at each width."""
    cells = load("quant.methods", method).quantize(
        one.weights, one.inputs, scheme, LOW_WIDTHS, foldable=one.foldable
    )
    return {
        bits: one.error([dequantize(cell) for cell in row])
        for bits, row in cells.items()
    }


def compare(
    comparison: Comparison, found: Sequence[Set], scheme: Scheme
) -> list[dict[str, Any]]:
    """One row for each width."""
    package = comparison.package()
    plain = [ours("uniform", one, scheme) for one in found]
    mine = [ours(comparison.method, one, scheme) for one in found]
    rows = []
    for bits in LOW_WIDTHS:
        peers = {
            label: mean([one.error(solve(package, one, scheme, bits)) for one in found])
            for label, solve in comparison.peers.items()
            if package is not None
        }
        row = {
            "bits": bits,
            "uniform": mean([errors[bits] for errors in plain]),
            "ours": mean([errors[bits] for errors in mine]),
            "peers": peers,
            "sets above rounding": sum(
                own[bits] > other[bits] for own, other in zip(mine, plain, strict=True)
            ),
        }
        rows.append(row)
    return rows


def mean(values: Sequence[float]) -> float:
    """The average."""
    return sum(values) / len(values)


def kept(row: Mapping[str, Any]) -> bool:
    """Whether a row holds what was promised."""
    best = min(row["peers"].values(), default=float("inf"))
    return bool(row["ours"] <= min(MOST * best, row["uniform"]))


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table."""
    labels = list(rows[0]["peers"])
    names = ["bits", "uniform", "ours"]
    names += [name for label in labels for name in (label, "ratio")]
    print(f"\n{title}\n\n| {' | '.join([*names, 'sets above rounding', 'kept'])} |")
    print("|---" * (len(names) + 2) + "|")
    for row in rows:
        parts = [str(row["bits"]), f"{row['uniform']:.3e}", f"{row['ours']:.3e}"]
        for label in labels:
            error = row["peers"][label]
            parts += [f"{error:.3e}", f"{row['ours'] / error:.3f}"]
        parts += [str(row["sets above rounding"]), "yes" if kept(row) else "NO"]
        print(f"| {' | '.join(parts)} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = [one.method for one in COMPARISONS]
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--methods", nargs="+", default=known, choices=known)
    parser.add_argument("--groups", nargs="+", type=int, default=[128])
    parser.add_argument("--out", type=Path, help="also write everything as JSON")
    asked = parser.parse_args()
    results = []
    for name in asked.models:
        found = list(sets(name))
        for group in asked.groups:
            for comparison in COMPARISONS:
                if comparison.method not in asked.methods:
                    continue
                if comparison.method not in available("quant.methods"):
                    continue
                rows = compare(comparison, found, Scheme(group))
                title = f"{name}, {comparison.method}, groups of {group}"
                show(f"{title}, {len(found)} sets", rows)
                about = {"model": name, "method": comparison.method, "group": group}
                results += [{**about, **row, "kept": kept(row)} for row in rows]
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
