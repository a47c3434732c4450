"""Whether agreement with full precision ranks allocations as their accuracy does.

    nice python -m studies.tasks.agreement [--samples 600] [--models tiny-llava]

On both embedded models: the uniform allocations of every method at every width, and
random ones within budgets, of which each group has a width and method at random, until
they fit. Each replies to the same questions of VQAv2's evaluation set (the drawn one)
from the bank's cells; its replies are scored by VQA accuracy, and by how many are full
precision's. Beside the rank correlation of the two, accuracy against accuracy: of one
half of the pictures against the other half, which no measure of one half can beat by
much. The embedded models answer nearly all of these questions rightly, so both are also
held against each other on what full precision gets wrong and as many others. Writes
`agreement.md` and draws `agreement.png` beside this file; keeps the scores in
`studies/results/`.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from evals.metrics.agreement import agreeing
from evals.subsets import Subsets
from surrogate.importance import spearman

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.allocation import Allocation
    from allocator.space.model import ModelSpace

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results" / "tasks_agreement.json"
MODELS = ("tiny-blip2", "tiny-llava")
# bits per weight within the groups, beyond those of the narrowest allocation; how far
# below a budget a random one may be, and how many of them
BUDGETS, BELOW, EACH = (0.15, 0.4, 0.7, 1.0, 1.5, 2.5), 0.1, 8
BANDS = ((0.0, 2.75), (2.75, 3.5), (3.5, 4.5), (4.5, 16.0))
DRAWS, HALVES = 2_000, 40
# points of accuracy that are worth choosing by
POINTS = 2.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """Allocations and their values of each sample: [allocations, samples]."""

    model: str
    bits: Floats
    uniform: NDArray[np.bool_]
    accuracy: Floats
    agreement: Floats
    pictures: NDArray[np.int64]
    full: Floats

    def half_right(self, rng: np.random.Generator) -> Scored:
        """On what full precision answers wrongly, and on as many other questions."""
        wrong = np.flatnonzero(self.full < 50)
        right = rng.permutation(np.flatnonzero(self.full >= 50))[: len(wrong)]
        own = np.sort(np.concatenate([wrong, right]))
        return replace(
            self,
            accuracy=self.accuracy[:, own],
            agreement=self.agreement[:, own],
            pictures=np.unique(self.pictures[own], return_inverse=True)[1],
            full=self.full[own],
        )

    def within(self, low: float, high: float) -> Scored:
        """Those whose groups have so many bits."""
        kept = (self.bits >= low) & (self.bits < high)
        return replace(
            self,
            bits=self.bits[kept],
            uniform=self.uniform[kept],
            accuracy=self.accuracy[kept],
            agreement=self.agreement[kept],
        )


def drawn(space: ModelSpace, budget: float, random: Random) -> Allocation:
    """A random allocation just within a budget: groups change until it fits."""
    found = space.full.replace({k: random.choice(space.choices) for k in space.keys})
    most = space.size(space.smallest).bpw("quantized") + budget
    while not most - BELOW <= (size := space.size(found).bpw("quantized")) <= most:
        key = random.choice(space.keys)
        other = random.choice([c for c in space.choices if c.bits < 16])
        wider = other.bits > found[key].bits
        if wider == (size < most):
            found = found.replace({key: other})
    return found


def scored(model: str, samples: int, seed: int) -> Scored:
    """Score everything of one model, a line each."""
    setup = prepare(StudySpec("16", "vqav2", model=model))
    bench, space, task = open_bench(setup, Silent()), setup.space, setup.task
    own = setup.samples["evaluation"]
    order = Subsets.of([s.image for s in own], seed=seed).order[:samples]
    asked = [own[place] for place in sorted(order)]
    images = {image: n for n, image in enumerate({s.image: None for s in asked})}
    full = bench.predictions(space.full, asked)
    best = task.score(full, asked)
    print(f"{model}: {len(asked)} questions of {len(images)} pictures, {best.mean:.2f}")
    random = Random(seed)
    wanted = {a.digest: (a, True) for a in space.uniform if a != space.full}
    for budget in BUDGETS:
        for _ in range(EACH):
            each = drawn(space, budget, random)
            wanted.setdefault(each.digest, (each, False))
    rows = []
    for allocation, uniform in wanted.values():
        said = bench.predictions(allocation, asked)
        values = task.score(said, asked).values
        size = space.size(allocation).bpw("quantized")
        rows.append((size, uniform, values, agreeing(said, full)))
        print(
            f"{model} {'uniform' if uniform else 'random'} {size:.3f}: "
            f"{np.mean(values):.2f} accuracy, {np.mean(rows[-1][3]):.2f} agreement",
            flush=True,
        )
    bits, uniforms, accuracy, agreement = zip(*rows, strict=True)
    return Scored(
        model,
        np.array(bits),
        np.array(uniforms),
        np.array(accuracy),
        np.array(agreement),
        np.array([images[s.image] for s in asked]),
        np.array(best.values),
    )


def correlation(found: Scored, rng: np.random.Generator) -> tuple[float, float, float]:
    """Spearman of the two means, and its 95 % interval: allocations drawn again."""
    x, y = found.agreement.mean(1), found.accuracy.mean(1)
    places = rng.integers(0, len(x), (DRAWS, len(x)))
    draws = [spearman(x[own], y[own]) for own in places]
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return spearman(x, y), float(low), float(high)


def between_halves(found: Scored, rng: np.random.Generator) -> tuple[float, float]:
    """Of agreement and of accuracy on half of the pictures, with the other half."""
    told: list[tuple[float, float]] = []
    for _ in range(HALVES):
        pictures = rng.permutation(found.pictures.max() + 1)
        one = np.isin(found.pictures, pictures[: len(pictures) // 2])
        there = found.accuracy[:, ~one].mean(1)
        told.append(
            (
                spearman(found.agreement[:, one].mean(1), there),
                spearman(found.accuracy[:, one].mean(1), there),
            )
        )
    first, second = np.nanmean(told, axis=0)
    return float(first), float(second)


def misled(found: Scored) -> tuple[int, int]:
    """Pairs that are POINTS of accuracy apart, and those that agreement turns round."""
    x, y = found.agreement.mean(1), found.accuracy.mean(1)
    one, other = np.triu_indices(len(x), 1)
    apart = np.abs(y[one] - y[other]) >= POINTS
    turned = (x[one] - x[other]) * (y[one] - y[other]) < 0
    return int(apart.sum()), int((apart & turned).sum())


def row(name: str, found: Scored, rng: np.random.Generator) -> str:
    """A line of the table."""
    if len(found.bits) < 4:
        return f"| {found.model} | {name} | {len(found.bits)} | | | | | |"
    rho, low, high = correlation(found, rng)
    halves, itself = between_halves(found, rng)
    apart, turned = misled(found)
    accuracy, agreement = found.accuracy.mean(1), found.agreement.mean(1)
    return (
        f"| {found.model} | {name} | {len(found.bits)} | "
        f"{accuracy.min():.1f} to {accuracy.max():.1f} | "
        f"{agreement.min():.1f} to {agreement.max():.1f} | "
        f"{rho:.3f} [{low:.3f}, {high:.3f}] | {halves:.3f} ({itself:.3f}) | "
        f"{turned} of {apart} |"
    )


def table(all_: Sequence[Scored], seed: int) -> str:
    """The correlations, overall and by bits."""
    rng = np.random.default_rng(seed)
    lines = [
        "| model | bits | allocations | accuracy | agreement | Spearman [95 %] | "
        "between halves (accuracy itself) | pairs turned round |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in all_:
        lines.append(row("all", found, rng))
        for low, high in BANDS:
            name = f"{low:g} to {high:g}"
            lines.append(row(name, found.within(low, high), rng))
        hard = found.half_right(rng)
        lines.append(row(f"all, on {hard.full.size} questions half right", hard, rng))
        for low, high in BANDS:
            lines.append(row(f"{low:g} to {high:g} there", hard.within(low, high), rng))
    return "\n".join(lines) + "\n"


def draw(all_: Sequence[Scored], path: Path) -> None:
    """Draw accuracy against agreement, coloured by bits."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(all_), figsize=(5 * len(all_), 4), squeeze=False)
    for axis, found in zip(axes.flat, all_, strict=True):
        for uniform, marker in ((True, "s"), (False, "o")):
            own = found.uniform == uniform
            points = axis.scatter(
                found.agreement.mean(1)[own],
                found.accuracy.mean(1)[own],
                c=found.bits[own],
                vmin=2,
                vmax=8,
                cmap="viridis_r",
                marker=marker,
                s=22,
                label="uniform" if uniform else "random",
            )
        axis.set(
            title=found.model,
            xlabel="agreement with full precision (%)",
            ylabel="VQA accuracy (%)",
        )
        for handle in axis.legend(fontsize=8).legend_handles:
            handle.set_color("grey")
        figure.colorbar(points, ax=axis, label="bits per weight of the groups")
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def kept(found: Scored) -> dict[str, Any]:
    """Means, as plain data."""
    return {
        "model": found.model,
        "samples": found.accuracy.shape[1],
        "rows": [
            {
                "bits": round(float(bits), 4),
                "uniform": bool(uniform),
                "accuracy": round(float(accuracy), 3),
                "agreement": round(float(agreement), 3),
            }
            for bits, uniform, accuracy, agreement in zip(
                found.bits,
                found.uniform,
                found.accuracy.mean(1),
                found.agreement.mean(1),
                strict=True,
            )
        ],
    }


def main() -> None:
    """Score, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=600)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found = [scored(model, asked.samples, asked.seed) for model in asked.models]
    told = table(found, asked.seed)
    print(told)
    if tuple(asked.models) == MODELS:
        RESULTS.write_text(json.dumps([kept(each) for each in found], indent=1) + "\n")
        command = "python -m " + " ".join(["studies.tasks.agreement", *sys.argv[1:]])
        head = f"# Agreement against VQA accuracy\n\n`{command}`\n\n"
        (HERE / "agreement.md").write_text(f"{head}{told}\n![](agreement.png)\n")
        draw(found, HERE / "agreement.png")


if __name__ == "__main__":
    main()
