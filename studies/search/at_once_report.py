"""What proposing at once costs: `python studies/search/at_once_report.py`.

Reads `at_once_tables.json` and `at_once_looks.jsonl`, writes `at_once.md` and
`at_once.png` beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

from evals.interval import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes

HERE = Path(__file__).parent
AFTER = (10, 20, 40)
TOLD = {
    "barred": "only barred",
    "least": "least known",
    "mean": "mean of what is known",
    "best": "best known",
    "predicted": "its prediction",
    "drawn": "a draw of it",
}
COLOURS = ("#000000", "#d55e00", "#0072b2", "#e69f00", "#009e73", "#cc79a7")
# regrets by case; proposals at once; way, with the race where there is one; after; then
# by budget and seed
Regrets = dict[tuple[str, int, str, int], dict[Any, float]]


def of_tables(path: Path) -> Regrets:
    """Regrets on published tables, CIDEr in hundredths or recall in points."""
    found: Regrets = {}
    for row in json.loads(path.read_text()):
        scale = 100 if "captioning" in row["case"] else 1
        for after, own in row["regrets"].items():
            key = row["case"], row["at_once"], row["way"], int(after)
            at = {(row["budget"], seed): scale * r for seed, r in enumerate(own)}
            found.setdefault(key, {}).update(at)
    return found


def of_looks(path: Path) -> Regrets:
    """Regrets on planted models, in points, against the best that anyone found."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    best: dict[Any, float] = {}
    for budget, seed, *_, course in rows:
        best[budget, seed] = max(best.get((budget, seed), -np.inf), course[-1])
    found: Regrets = {}
    for budget, seed, times, way, race, course in rows:
        case = f"planted models, {race}"
        # one list has one race
        cases = [f"planted models, {r}" for r in RACES] if times == 1 else [case]
        for own in cases:
            for after in AFTER:
                left = best[budget, seed] - course[after - 1]
                found.setdefault((own, times, way, after), {})[budget, seed] = left
    return found


RACES = ("together", "apart")
UNIT = {
    "planted models": "mean regret, points",
    "captioning CIDEr": "mean regret, CIDEr in hundredths",
}


def sections(found: Regrets) -> Iterator[str]:
    """A table for each case and number of scores."""
    for case in dict.fromkeys(key[0] for key in found):
        ways = [w for w in TOLD if any(k[0] == case and k[2] == w for k in found)]
        times = sorted({key[1] for key in found if key[0] == case})
        yield f"## {case}\n"
        for after in AFTER:
            alone = found[case, 1, "barred", after]
            yield f"After {after} scores; one at a time {mean(alone):.3f}.\n"
            heads = ["at once", *(TOLD[way] for way in ways)]
            yield f"| {' | '.join(heads)} |"
            yield "|---" * len(heads) + "|"
            for count in times[1:]:
                cells = [
                    cell(alone, found.get((case, count, way, after), {}))
                    for way in ways
                ]
                yield f"| {count} | {' | '.join(cells)} |"
            yield ""


def mean(own: dict[Any, float]) -> float:
    """Over budgets and seeds."""
    return float(np.mean(list(own.values())))


def cell(alone: dict[Any, float], own: dict[Any, float]) -> str:
    """A mean, and by how much it exceeds that of one at a time, in pairs."""
    pairs = sorted(alone.keys() & own.keys())
    if not pairs:
        return ""
    over = bootstrap([own[key] - alone[key] for key in pairs])
    few = "" if len(own) == len(alone) else f", {len(pairs)} pairs"
    return (
        f"{mean(own):.3f} ({over.mean:+.3f} [{over.low:+.3f}, {over.high:+.3f}]{few})"
    )


def draw(found: Regrets, cases: Sequence[str], path: Path) -> None:
    """Mean regret against proposals at once, a panel a case and number of scores."""
    shown = AFTER[:2]
    figure, axes = plt.subplots(
        len(shown), len(cases), figsize=(4.2 * len(cases), 6.4), squeeze=False
    )
    for down, after in enumerate(shown):
        for across, case in enumerate(cases):
            _panel(axes[down, across], found, case, after)
    named: dict[str, Any] = {}
    for axis in axes.flat:
        handles, labels = axis.get_legend_handles_labels()
        named.update(zip(labels, handles, strict=True))
    own = [label for label in TOLD.values() if label in named]
    figure.legend(
        [named[label] for label in own],
        own,
        loc="lower center",
        ncols=3,
        frameon=False,
    )
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axes: Axes, found: Regrets, case: str, after: int) -> None:
    times = sorted({key[1] for key in found if key[0] == case})
    for colour, way in zip(COLOURS, TOLD, strict=True):
        points = []
        for count in times:
            own = found.get((case, count, "barred" if count == 1 else way, after))
            if own:
                values = list(own.values())
                points.append((count, np.mean(values), _error(values)))
        if len(points) < 2:
            continue
        at, means, errors = zip(*points, strict=True)
        shift = 2 ** (0.06 * (list(TOLD).index(way) - 2.5))
        moved = np.array(at) * np.where(np.array(at) == 1, 1.0, shift)
        axes.errorbar(
            moved,
            means,
            yerr=errors,
            fmt="o-",
            ms=3,
            lw=2 if way == "barred" else 1.2,
            elinewidth=0.7,
            color=colour,
            label=TOLD[way],
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(times, [str(each) for each in times])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_title(f"{case}, {after} scores", fontsize=10)
    axes.set_xlabel("proposals at once")
    axes.set_ylabel(UNIT[case.split(",")[0]])
    axes.grid(alpha=0.3)


def _error(values: Sequence[float]) -> float:
    """The standard error of a mean."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5)


def main() -> None:
    """Write both."""
    found = of_looks(HERE / "at_once_looks.jsonl")
    found |= of_tables(HERE / "at_once_tables.json")
    text = "\n".join(sections(found))
    (HERE / "at_once.md").write_text(text)
    print(text)
    draw(found, ["planted models, together", "captioning CIDEr"], HERE / "at_once.png")


if __name__ == "__main__":
    main()
