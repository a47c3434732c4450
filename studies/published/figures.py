"""Figures of the published tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sweep
from matplotlib.figure import Figure

from allocator.space.csv_file import read_csv
from allocator.space.fronts import front

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from cases import Case

# told apart without colour vision (Okabe and Ito)
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#9AA0A6"
COLOURS = (BLUE, ORANGE, GREEN)
SHORT = {"vit_bits": "ViT", "qformer_bits": "Q-Former", "llm_bits": "LLM"}
WIDTHS = (2, 3, 4, 5, 6, 8, 16)


def draw(
    out: Path,
    explained: Mapping[Case, dict[str, Any]],
    runs: sweep.Sweep,
    found: Mapping[str, dict[str, Any]],
) -> None:
    """Draw all figures into a folder."""
    drawn = {
        "fronts": fronts(explained, runs),
        "single": single(explained),
        "pairs": pairs(explained),
        "importance": printed(explained),
        "believed": believed(found),
    }
    for name, figure in drawn.items():
        figure.savefig(out / f"{name}.png", dpi=110)


def _panels(columns: int, width: float, height: float, rows: int = 1) -> Any:
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
    return figure, panels


def _main(explained: Mapping[Case, Any]) -> list[Case]:
    """Captions by CIDEr, and both recalls at 1."""
    return [case for case in explained if case.printed]


def fronts(explained: Mapping[Case, Any], runs: sweep.Sweep) -> Figure:
    """Score against size: all rows, the front, the uniform allocations."""
    figure, panels = _panels(2, 11, 7.5, rows=2)
    for panel, case in zip(panels.flat, _main(explained), strict=False):
        one = case.evidence
        sheet = read_csv(_path(case), (case.score,))
        bpw = np.array(sheet.sizes("bpw"))
        alike = (one.bits == one.bits[:, :1]).all(axis=1)
        _front(panel, bpw, one.scores, alike)
        panel.set_title(case.title, fontsize=10)
        panel.set_ylabel(case.score, fontsize=9)
    last = panels.flat[3]
    alike = (runs.applied == runs.applied[:, :1]).all(axis=1)
    _front(last, runs.bpw, runs.scores, alike)
    last.legend(frameon=False, fontsize=8, loc="center left")
    last.set_title("uniform sweep, COCO captions, CIDEr, bits applied", fontsize=10)
    last.set_ylabel("CIDEr", fontsize=9)
    return figure


def _path(case: Case) -> Any:
    return sweep.FILE.parent / case.file


def _front(panel: Any, bpw: Any, scores: Any, alike: Any) -> None:
    best = front(list(zip(bpw.tolist(), scores.tolist(), strict=True)))
    panel.scatter(bpw, scores, s=8, color=GREY, alpha=0.6, label="measured")
    panel.step(bpw[best], scores[best], where="post", color=BLUE, lw=1.8, label="front")
    panel.scatter(
        bpw[alike], scores[alike], s=34, color=ORANGE, marker="D", label="same bits"
    )
    panel.set_xlabel("nominal bits per weight", fontsize=9)
    panel.legend(frameon=False, fontsize=8, loc="lower right")


def single(explained: Mapping[Case, Any]) -> Figure:
    """Score against the bits of one component, the others at 16."""
    cases = _main(explained)
    figure, panels = _panels(len(cases), 12, 3.8)
    for panel, case in zip(panels.flat, cases, strict=True):
        one = case.evidence
        for at, key in enumerate(one.keys):
            rest = np.delete(one.bits, at, axis=1)
            rows = (rest == 16).all(axis=1)
            order = np.argsort(one.bits[rows, at])
            bits, scores = one.bits[rows, at][order], one.scores[rows][order]
            panel.plot(
                np.arange(len(bits)),
                scores,
                marker="os^"[at],
                color=COLOURS[at],
                label=SHORT[key],
            )
        panel.set_xticks(range(len(WIDTHS)), [str(b) for b in WIDTHS])
        panel.set_xlabel("bits of one component, the others at 16", fontsize=9)
        panel.set_title(case.title, fontsize=10)
        panel.set_ylabel(case.score, fontsize=9)
        panel.legend(frameon=False, fontsize=8)
    return figure


def pairs(explained: Mapping[Case, Any]) -> Figure:
    """Score by the bits of two components, any third at 16."""
    captions, recall = _main(explained)[:2]
    wanted = [(captions, 0, 2), (captions, 0, 1), (captions, 1, 2), (recall, 0, 1)]
    figure, panels = _panels(4, 15, 4.1)
    for panel, (case, first, second) in zip(panels.flat, wanted, strict=True):
        one = case.evidence
        rest = np.delete(one.bits, (first, second), axis=1)
        rows = (rest == 16).all(axis=1)
        grid = np.full((len(WIDTHS), len(WIDTHS)), np.nan)
        for bits, score in zip(one.bits[rows], one.scores[rows], strict=True):
            grid[WIDTHS.index(bits[second]), WIDTHS.index(bits[first])] = score
        panel.imshow(grid, origin="lower", cmap="cividis", aspect="equal")
        middle = (np.nanmax(grid) + np.nanmin(grid)) / 2
        for (row, column), score in np.ndenumerate(grid):
            ink = "black" if score > middle else "white"
            text = f"{score:.2f}" if score < 10 else f"{score:.0f}"
            panel.text(column, row, text, ha="center", va="center", color=ink, size=7)
        for axis, name in (("x", first), ("y", second)):
            ticks = getattr(panel, f"set_{axis}ticks")
            ticks(range(len(WIDTHS)), [str(b) for b in WIDTHS])
            label = f"{SHORT[one.keys[name]]} bits"
            getattr(panel, f"set_{axis}label")(label, fontsize=9)
        panel.set_title(f"{case.score}: {case.title.split(', ')[1]}", fontsize=10)
    return figure


def printed(explained: Mapping[Case, Any]) -> Figure:
    """Our consensus with its interval, beside the printed one."""
    cases = _main(explained)
    figure, panels = _panels(len(cases), 12, 2.9)
    for panel, case in zip(panels.flat, cases, strict=True):
        shares = explained[case]["importance"]["group"]
        names = list(shares)[::-1]
        for at, name in enumerate(names):
            share = shares[name]
            panel.plot(share["ci95"], [at, at], color=BLUE, lw=2)
            panel.plot(share["consensus"], at, "o", color=BLUE, ms=8)
            where = list(shares).index(name)
            panel.plot(case.printed[where], at, "D", color=ORANGE, ms=11, mfc="none")
        panel.set_yticks(range(len(names)), [SHORT[name] for name in names])
        panel.set_ylim(-0.6, len(names) - 0.4)
        panel.set_xlim(-2, 102)
        panel.set_xlabel("percent of importance", fontsize=9)
        panel.set_title(case.title, fontsize=10)
    roomy = panels.flat[1]
    roomy.plot([], [], "o-", color=BLUE, label="ours, 95 %")
    roomy.plot([], [], "D", color=ORANGE, mfc="none", label="printed")
    roomy.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def believed(found: Mapping[str, dict[str, Any]]) -> Figure:
    """Importance of the 18 groups by the bits applied and by those asked for."""
    figure, panels = _panels(1, 9, 6.4)
    panel = panels.flat[0]
    for kind, colour, shift in (("applied", BLUE, 0.16), ("requested", ORANGE, -0.16)):
        shares = found[kind]["importance"]["group"]
        for at, name in enumerate(list(shares)[::-1]):
            share = shares[name]
            panel.plot(share["ci95"], [at + shift] * 2, color=colour, lw=1.6)
            marker = "o" if kind == "applied" else "D"
            panel.plot(share["consensus"], at + shift, marker, color=colour, ms=5)
        panel.plot(
            [], [], "o-" if kind == "applied" else "D-", color=colour, label=kind
        )
    names = list(found["applied"]["importance"]["group"])[::-1]
    panel.set_yticks(range(len(names)), names, fontsize=9)
    dead = found["applied"]["importance"]["constant"]
    for at, name in enumerate(names):
        if name in dead:
            panel.axhspan(at - 0.45, at + 0.45, color=GREY, alpha=0.25, lw=0)
    panel.fill([], [], color=GREY, alpha=0.25, label="never applied")
    panel.set_xlabel("percent of importance, 95 % interval", fontsize=9)
    panel.legend(frameon=False, fontsize=9, loc="lower right")
    return figure
