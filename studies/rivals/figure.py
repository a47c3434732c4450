"""Score against stored bytes, a panel a model, a curve a system."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from pathlib import Path

    from studies.rivals.cells import Cells

COLOURS = (
    *("#000000", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7"),
    *("#8a8a8a", "#b8b8b8"),
)


def draw(found: Cells, path: Path) -> None:
    """Draw the scores on fresh questions."""
    models = list(dict.fromkeys(model for model, _ in found.cells))
    figure, axes = plt.subplots(
        1, len(models), figsize=(5.5 * len(models), 4.6), squeeze=False
    )
    for place, model in enumerate(models):
        axis = axes[0, place]
        own = [at for at, cell in enumerate(found.cells) if cell[0] == model]
        for at, name in reversed(list(enumerate(found.systems))):
            sizes = [found.kept[c]["systems"][name]["bytes"] / 1e3 for c in own]
            axis.plot(
                sizes,
                found.fresh[own, at],
                marker="o",
                markersize=5 if at == 0 else 3,
                linewidth=2.5 if at == 0 else 1.2,
                linestyle="-" if at < 7 else "--",
                color=COLOURS[at],
                label=name,
            )
        axis.set_title(model)
        axis.set_xlabel("stored, kB")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("VQA accuracy on fresh questions, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="lower center", ncols=5, frameon=False
    )
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    figure.savefig(path, dpi=110)
    plt.close(figure)
