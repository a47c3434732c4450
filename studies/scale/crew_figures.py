"""Figures of the simulated crew: wall time, efficiency, regret, the storage's load."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

COLOURS = ("#000000", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7")
SHOWN = (1, 8, 64, 512)
Row = dict[str, Any]


def draw(
    rows: Sequence[Row],
    regrets: Mapping[int, Any],
    served: float,
    cores: int,
    folder: Path,
) -> None:
    """Draw `crew.png`, four panels, and `crew_parts.png`.

    Args:
        rows: of the simulation, as `crew.py` keeps them.
        regrets: mean regret after each score, by proposals at once.
        served: operations a second that one processor of a server does.
        cores: processors of the server that was simulated.
        folder: where to.
    """
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.4))
    _wall(axes[0, 0], rows)
    _efficiency(axes[0, 1], rows)
    _regret(axes[1, 0], rows, regrets)
    _load(axes[1, 1], rows, served, cores)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(folder / "crew.png", dpi=110)
    plt.close(figure)
    _parts(rows, folder / "crew_parts.png")


def _plans(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["plan"] for row in rows))


def _of(rows: Sequence[Row], plan: str, what: str) -> tuple[list[int], list[float]]:
    own = [row for row in rows if row["plan"] == plan]
    return [row["workers"] for row in own], [row[what] for row in own]


def _workers(axes: Axes, title: str, unit: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(
        [4**n for n in range(5)] + [512], ["1", "4", "16", "64", "256", "512"]
    )
    axes.minorticks_off()
    axes.set_xlabel("workers")
    axes.set_ylabel(unit)
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)


def _wall(axes: Axes, rows: Sequence[Row]) -> None:
    for colour, plan in zip(COLOURS, _plans(rows), strict=False):
        axes.plot(*_of(rows, plan, "minutes"), "o-", ms=3, color=colour, label=plan)
    axes.set_yscale("log")
    _workers(axes, "a whole search", "minutes")
    minutes = [2, 5, 10, 20, 50, 100, 200]
    axes.set_yticks(minutes, [str(each) for each in minutes])
    axes.minorticks_off()


def _efficiency(axes: Axes, rows: Sequence[Row]) -> None:
    for colour, plan in zip(COLOURS, _plans(rows), strict=False):
        workers, share = _of(rows, plan, "efficiency")
        axes.plot(workers, np.array(share) * 100, "o-", ms=3, color=colour)
    _workers(axes, "speed-up / workers", "%")
    axes.set_ylim(0, 105)


def _regret(axes: Axes, rows: Sequence[Row], regrets: Mapping[int, Any]) -> None:
    """Mean regret once scores are known, against the minutes since the start."""
    for style, times in (("-", 1), ("--", 16)):
        if times not in regrets:
            continue
        for colour, workers in zip(COLOURS[1:], SHOWN, strict=False):
            plan = f"{times} at once"
            row = next(r for r in rows if (r["plan"], r["workers"]) == (plan, workers))
            minutes = [at for at, _ in row["scores"]]
            left = [regrets[times][count - 1] for _, count in row["scores"]]
            label = f"{workers} worker{'s' * (workers > 1)}, {times} at once"
            axes.plot(minutes, left, style, marker=".", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_xticks([2, 5, 10, 20, 40], ["2", "5", "10", "20", "40"])
    axes.minorticks_off()
    axes.set_xlabel("minutes since the start")
    axes.set_ylabel("mean regret, points")
    axes.set_ylim(bottom=-0.3)
    axes.set_title("regret on planted models, 20 proposals", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="lower left", ncols=2, framealpha=0.5)


def _load(axes: Axes, rows: Sequence[Row], served: float, cores: int) -> None:
    for colour, plan in zip(COLOURS, _plans(rows), strict=False):
        workers, most = _of(rows, plan, "most in a stage")
        axes.plot(workers, most, "o-", ms=3, color=colour)
    for count in (2, cores):
        axes.axhline(count * served, color="#8a8a8a", linestyle=":")
        text = f"{count} processors of a server"
        axes.text(1, count * served * 1.08, text, fontsize=8, color="#555555")
    axes.set_yscale("log")
    _workers(axes, "operations of the storage, busiest stage", "a second")


def _parts(rows: Sequence[Row], path: Path) -> None:
    """Where the minutes go, stacked, for one plan beside another."""
    plans = _plans(rows)
    shown = [plans[0], plans[2], plans[4]]
    figure, axes = plt.subplots(1, len(shown), figsize=(13, 4.6), sharey=True)
    for axis, plan in zip(axes, shown, strict=True):
        own = [row for row in rows if row["plan"] == plan and row["workers"] >= 8]
        below = np.zeros(len(own))
        for colour, part in zip(COLOURS, own[0]["parts"], strict=True):
            heights = np.array([row["parts"][part] for row in own])
            axis.bar(range(len(own)), heights, bottom=below, color=colour, label=part)
            below += heights
        axis.set_xticks(range(len(own)), [str(row["workers"]) for row in own])
        axis.set_xlabel("workers")
        axis.set_title(plan, fontsize=10)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("minutes")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
