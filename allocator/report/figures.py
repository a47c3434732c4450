"""Single figures of a report, by matplotlib: for papers and slides."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError, UnknownNameError
from allocator.core.text import visible
from allocator.report import view, view_surrogate, view_trials
from allocator.report.colours import LIGHT, place
from allocator.report.output import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Data = Mapping[str, Any]

# inches: width of a figure, height of a row of names and of what stands around rows
WIDE, ROW, AROUND = 8.0, 0.26, 1.1
DPI = 150
MARKERS = ("D", "s", "^", "P", "p", "h")
RIVAL_MARKERS = ("v", "X")
FORMATS = ("png", "svg")


def write_figure(data: Data, name: str, out: Path, fmt: str = "png") -> None:
    """Write one figure, whole or not at all.

    Args:
        data: what `allocator.report.data` gives.
        name: one of `FIGURES`.
        out: the file.
        fmt: png or svg.

    Raises:
        SpecError: another format, a file that cannot be one, or nothing to draw.
        UnknownNameError: a figure that there is none of.
        DataError: the file cannot be written.
    """
    if name not in FIGURES:
        raise UnknownNameError("figure", name, FIGURES)
    if fmt not in FORMATS:
        raise SpecError(f"format {fmt!r} is not one of {', '.join(FORMATS)}")
    write_atomically(out, lambda: drawn(data, name, fmt))


def drawn(data: Data, name: str, fmt: str) -> bytes:
    """The content of a figure's file.

    Raises:
        SpecError: there is nothing to draw.
    """
    import matplotlib as mpl

    # equal data give equal files
    with mpl.rc_context({"svg.hashsalt": "allocate", "svg.fonttype": "none"}):
        figure = DRAWN[name](data)
        if figure is None:
            raise SpecError(f"there is nothing to draw as {name!r}")
        kept = io.BytesIO()
        metadata = {"Date": None} if fmt == "svg" else {}
        figure.savefig(kept, format=fmt, dpi=DPI, metadata=metadata)
        return kept.getvalue()


def _figure(height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDE, height), layout="constrained")
    found = figure.subplots(1, panels, squeeze=False)
    axes: list[Axes] = list(found.flat)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
        panel.set_axisbelow(True)
        panel.grid(color=LIGHT["line"], lw=0.6)
    return figure, axes


def _name_rows(panel: Axes, names: Sequence[str]) -> None:
    """An axis of names, the first on top; a dollar sign is a dollar sign."""
    panel.set_yticks(range(len(names)), [plain(name) for name in names])
    panel.set_ylim(len(names) - 0.4, -0.6)
    panel.grid(visible=False, axis="y")


def plain(text: str) -> str:
    """Text that matplotlib does not read as mathematics."""
    return visible(text).replace("$", r"\$")


def front(data: Data) -> Figure | None:
    """Score against size: trials, front with intervals, uniform, recommended."""
    points = (view.trials(data), view.small_members(data), view.uniforms(data))
    best = view.recommended(data)
    if best is None and not any(points):
        return None
    figure, (panel,) = _figure(4.6)
    trials, members, uniform = points
    _dots(panel, trials, "measured", "o", LIGHT["dot"], 14, alpha=0.5)
    _front_line(panel, members)
    methods = list(dict.fromkeys(point.method for point in uniform))
    for at, method in enumerate(methods):
        own = [point for point in uniform if point.method == method]
        name = f"{method or 'same bits'} {view.where(own)}"
        marker = MARKERS[at % len(MARKERS)]
        _dots(panel, own, plain(name), marker, LIGHT["uniform"], 44)
    for point, marker in zip(view.rivals(data), RIVAL_MARKERS, strict=False):
        _dots(panel, [point], point.name, marker, LIGHT["uniform"], 44)
    if best:
        _dots(panel, [best], "recommended", "*", LIGHT["best"], 190, zorder=5)
    _lines(panel, data)
    panel.set_xlabel(plain(view.size_label(data)))
    panel.set_ylabel(plain(view.score_label(data)))
    panel.legend(frameon=False, fontsize=8)
    return figure


def _dots(
    panel: Axes,
    points: Sequence[view.Point],
    name: str,
    marker: str,
    colour: str,
    size: float,
    **more: Any,
) -> None:
    if points:
        x, y = [p.bpw for p in points], [p.score for p in points]
        panel.scatter(x, y, s=size, marker=marker, color=colour, label=name, **more)


def _front_line(panel: Axes, members: Sequence[view.Point]) -> None:
    if not members:
        return
    ends = [point.ci95 or (point.score, point.score) for point in members]
    below = [p.score - low for p, (low, _) in zip(members, ends, strict=True)]
    above = [high - p.score for p, (_, high) in zip(members, ends, strict=True)]
    panel.errorbar(
        [point.bpw for point in members],
        [point.score for point in members],
        yerr=[below, above],
        color=LIGHT["front"],
        marker="o",
        ms=4,
        lw=1.6,
        elinewidth=1,
        capsize=2,
        label=view.front_name(members),
    )


def _lines(panel: Axes, data: Data) -> None:
    """The score of full precision, and the budget."""
    full = view.at(data, "found", "full_precision", "score")
    budget = view.at(data, "found", "budget", "bpw")
    if full is not None:
        panel.axhline(full, color=LIGHT["soft"], ls="--", lw=1, label="full precision")
    if budget is not None and budget < view.FULL_BITS:
        panel.axvline(budget, color=LIGHT["budget"], ls=":", lw=1.2, label="budget")


def importance(data: Data) -> Figure | None:
    """Shares of the components and of the groups, with their intervals."""
    levels = {
        level: shares
        for level in ("component", "group")
        if (shares := view.importance(data, level)) and not view.unreliable(data, level)
    }
    if not levels:
        return None
    rows = max(len(shares) for shares in levels.values())
    figure, panels = _figure(AROUND + ROW * rows, len(levels))
    for panel, (level, shares) in zip(panels, levels.items(), strict=True):
        for at, share in enumerate(shares):
            panel.plot([share.low, share.high], [at, at], color=LIGHT["front"], lw=1.6)
            panel.plot(share.percent, at, "o", color=LIGHT["front"], ms=5)
        _name_rows(panel, [view.short(share.name) for share in shares])
        panel.set_xlim(left=0)
        panel.set_xlabel("percent of importance")
        panel.set_title(view.LEVELS[level], fontsize=10)
    return figure


def bits(data: Data) -> Figure | None:
    """Groups times allocations of the front: how many bits each gets."""
    from matplotlib.colors import LinearSegmentedColormap

    found = view.bits_map(data)
    if not found.groups or not found.columns:
        return None
    stops = [LIGHT[f"width{at}"] for at in range(4)]
    colours = LinearSegmentedColormap.from_list("widths", stops)
    figure, (panel,) = _figure(AROUND + ROW * len(found.groups))
    panel.grid(visible=False)
    cells = [[c.allocation.get(key) for c in found.columns] for key in found.groups]
    places = [[place(c["bits"]) if c else float("nan") for c in row] for row in cells]
    panel.imshow(places, cmap=colours, vmin=0, vmax=1, aspect="auto")
    for row, line in enumerate(cells):
        for column, cell in enumerate(line):
            if cell:
                ink = "white" if place(cell["bits"]) > 0.6 else LIGHT["ink"]
                style: Any = {"ha": "center", "va": "center", "color": ink, "size": 8}
                panel.text(column, row, found.text(found.groups[row], column), **style)
    _name_rows(panel, [view.short(key) for key in found.groups])
    ticks = [f"{column.bpw:.2f}" for column in found.columns]
    if found.chosen is not None:
        ticks[found.chosen] += " *"
    panel.set_xticks(range(len(ticks)), ticks, rotation=90)
    panel.set_xlabel("size of the allocation, bpw (* recommended)")
    return figure


def trials(data: Data) -> Figure | None:
    """Parallel coordinates: a line for each trial, the better the bluer."""
    axes = view_trials.axes(data)
    if not axes:
        return None
    figure, (panel,) = _figure(4.0)
    heights = [view_trials.scaled(axis.values) for axis in axes]
    strengths = ("good", "fair", "weak")
    bands = view_trials.bands(axes[-1].values, view.lower_is_better(data))
    order = sorted(range(len(bands)), key=lambda at: -bands[at])
    rows = [trial for trial in view.trials(data) if trial.allocation]
    best = view.recommended(data)
    for at in order:
        style: Any = {"color": LIGHT[strengths[bands[at]]], "lw": 1.2, "alpha": 0.8}
        if best and rows[at].digest == best.digest:
            style = {"color": LIGHT["best"], "lw": 2.4, "label": "recommended"}
            style["zorder"] = 3
        panel.plot(range(len(axes)), [height[at] for height in heights], **style)
    if best and any(row.digest == best.digest for row in rows):
        lower = view.lower_is_better(data)
        panel.legend(loc="upper right" if lower else "lower right", frameon=False)
    names = [
        f"{plain(view.short(axis.name, 20))}\n{min(axis.values):.3g} to "
        f"{max(axis.values):.3g}"
        for axis in axes
    ]
    panel.set_xticks(range(len(axes)), names, fontsize=8)
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)
    return figure


def proxies(data: Data) -> Figure | None:
    """Each cheap look against the full score."""
    looks = view_surrogate.looks(data)
    if not looks:
        return None
    figure, panels = _figure(3.2, len(looks))
    for panel, look in zip(panels, looks, strict=True):
        panel.scatter(look.looked, look.scores, s=18, color=LIGHT["front"], alpha=0.8)
        known = "" if look.correlation is None else f"\nrank {look.correlation:.2f}"
        panel.set_xlabel(plain(look.name) + known, fontsize=9)
    panels[0].set_ylabel(plain(view.metric_of(data)))
    return figure


def waterfall(data: Data) -> Figure | None:
    """From the mean of all to what is predicted for the recommended allocation."""
    fall = view_surrogate.waterfall(data)
    if fall is None or view.unreliable(data, "group"):
        return None
    metric = view.metric_of(data)
    names = ["mean of all", *(name for name, _ in fall.parts), "predicted"]
    names[0] += f", {view.number(fall.mean, metric)}"
    names[-1] += f", {view.number(fall.predicted, metric)}"
    figure, (panel,) = _figure(AROUND + ROW * len(names))
    panel.margins(x=0.1)
    panel.use_sticky_edges = False
    now = fall.mean
    for at, (_, value) in enumerate(fall.parts, start=1):
        colour = LIGHT[view_surrogate.side_of(value, data)]
        panel.barh(at, value, left=now, color=colour, height=0.7)
        now += value
        side, room = ("left", 3) if value >= 0 else ("right", -3)
        panel.annotate(
            view.number(value, metric, sign=True),
            (now, at),
            xytext=(room, 0),
            textcoords="offset points",
            ha=side,
            va="center",
            size=8,
        )
    ends = (fall.mean, fall.predicted)
    panel.plot(ends, (0, len(names) - 1), "D", color=LIGHT["soft"], ms=6)
    _name_rows(panel, [view.short(name) for name in names])
    panel.set_xlabel(plain(view.score_label(data)))
    return figure


def interactions(data: Data) -> Figure | None:
    """Pairs that act together, in percent of all effects."""
    pairs = view_surrogate.pairs(data)
    if not pairs or view.at(data, "explained", "interactions", "reason"):
        return None
    figure, (panel,) = _figure(AROUND + ROW * len(pairs))
    values = [pair.value for pair in pairs]
    panel.barh(range(len(pairs)), values, color=LIGHT["front"], height=0.7)
    both = ((view.short(pair.first), view.short(pair.second)) for pair in pairs)
    _name_rows(panel, [f"{first} and {second}" for first, second in both])
    panel.set_xlabel("percent of all effects")
    return figure


DRAWN: dict[str, Callable[[Data], Figure | None]] = {
    "front": front,
    "importance": importance,
    "bits": bits,
    "trials": trials,
    "proxies": proxies,
    "waterfall": waterfall,
    "interactions": interactions,
}
FIGURES = tuple(DRAWN)
