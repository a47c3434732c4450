"""Regret against evaluations, a panel where a case and budget tell strategies apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from report import DEFAULT, Runs

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from report import Run

COLUMNS = 3
FIRST = 2  # before it, hardly anything but the common baseline was read
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a8a")


def draw(runs: Sequence[Run], path: Path) -> None:
    """Draw the mean over seeds of every strategy.

    Panels in which all runs are the same from the second evaluation on are left out.
    """
    courses: dict[tuple[str, float], set[tuple[float, ...]]] = {}
    for run in runs:
        courses.setdefault((run.case, run.budget), set()).add(run.regrets[FIRST - 1 :])
    order = list(dict.fromkeys(run.case for run in runs))
    panels = sorted(
        (panel for panel, met in courses.items() if len(met) > 1),
        key=lambda panel: (order.index(panel[0]), panel[1]),
    )
    if not panels:
        return
    rows = math.ceil(len(panels) / COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(4 * COLUMNS, 3 * rows), squeeze=False
    )
    strategies = Runs(tuple(runs)).strategies
    for place, panel in enumerate(panels):
        _panel(axes.flat[place], runs, panel, strategies)
    for unused in axes.flat[len(panels) :]:
        unused.set_visible(False)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=8, frameon=False)
    figure.tight_layout(rect=(0, 0.4 / (3 * rows), 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(
    axes: Axes,
    runs: Sequence[Run],
    panel: tuple[str, float],
    strategies: Sequence[str],
) -> None:
    """Mean regret of every strategy in one case at one budget."""
    case, budget = panel
    for place, name in enumerate(strategies):
        own = [r for r in runs if (r.case, r.budget, r.strategy) == (*panel, name)]
        if not own:
            continue
        longest = max(len(run.regrets) for run in own)
        counts = range(FIRST, longest + 1)
        means = [np.mean([run.after(count) for run in own]) for count in counts]
        default = name == DEFAULT
        axes.plot(
            counts,
            means,
            label=name,
            color="black" if default else COLOURS[(place - 1) % len(COLOURS)],
            linewidth=2.2 if default else 1.2,
            zorder=3 if default else 2,
        )
    axes.set_title(f"{case}, {budget:g} bpw", fontsize=10)
    axes.set_xlabel("evaluations")
    axes.set_ylabel("mean regret")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
