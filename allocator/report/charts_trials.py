"""Plotly figures of trials: all of them as lines, and looks beside their scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.report.charts import axis, chart, safe
from allocator.report.view import (
    lower_is_better,
    metric_of,
    number,
    recommended,
    short,
    trials,
)
from allocator.report.view_trials import axes, bands, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.report.view import Point
    from allocator.report.view_surrogate import Look

    Data = Mapping[str, Any]
    Chart = dict[str, Any]

BANDS = (("best tenth", "good", 1.6), ("better half", "fair", 1.1), ("rest", "weak", 1))


def trials_chart(data: Data) -> Chart | None:
    """Parallel coordinates: a line for every trial, the best on top."""
    metric, found = metric_of(data), axes(data)
    rows = [trial for trial in trials(data) if trial.allocation]
    if len(rows) < 2:
        return None
    best = recommended(data)
    band = bands([row.score for row in rows], lower_is_better(data))
    heights = [scaled(each.values) for each in found]
    traces = []
    for index in reversed(range(len(BANDS))):
        own = [i for i, each in enumerate(band) if each == index]
        traces.append(_strands(BANDS[index], own, heights, rows, metric))
    chosen = [i for i, row in enumerate(rows) if best and row.digest == best.digest]
    if chosen:
        named = ("recommended", "best", 3.0)
        traces.append(_strands(named, chosen[-1:], heights, rows, metric))
    names = [_in_lines(each.name) for each in found]
    line = {"color": "soft", "width": 1}
    ends = {"type": "line", "y0": 0, "y1": 1, "line": line, "layer": "below"}
    places = list(range(len(found)))
    return chart(
        traces,
        400,
        {"margin.l": 22, "margin.r": 26, "xaxis.tickfont.size": 10},
        showlegend=True,
        margin={"l": 40, "r": 40, "t": 12, "b": 52},
        shapes=[{**ends, "x0": at_, "x1": at_} for at_ in places],
        annotations=[n for i, a in enumerate(found) for n in _ends(i, a.values)],
        xaxis=axis(
            tickmode="array",
            tickvals=places,
            ticktext=names,
            showgrid=False,
            showline=False,
            tickangle=0,
            range=[-0.15, len(found) - 0.85],
            tickfont={"color": "ink"},
        ),
        yaxis=axis(visible=False, range=[-0.12, 1.12]),
    )


def _in_lines(name: str) -> str:
    """An axis' name in lines that fit between its neighbours."""
    return "<br>".join(safe(short(line, 12)) for line in name.split(", ", 1))


def _ends(place_: int, values: Sequence[float]) -> list[Chart]:
    """The smallest and the largest value of an axis."""
    low, high = min(values), max(values)
    small = {"showarrow": False, "x": place_, "font": {"size": 11, "color": "soft"}}
    if low == high:
        return [{**small, "y": 0.5, "text": f"{low:.4g}", "yshift": 10}]
    return [
        {**small, "y": 0, "text": f"{low:.4g}", "yshift": -11},
        {**small, "y": 1, "text": f"{high:.4g}", "yshift": 11},
    ]


def _strands(
    band: tuple[str, str, float],
    own: Sequence[int],
    heights: Sequence[Sequence[float]],
    rows: Sequence[Point],
    metric: str,
) -> Chart:
    """One trace of many lines: None lifts the pen between two of them."""
    name, color, width = band
    told = [
        f"<b>{safe(rows[i].name)}</b><br>{safe(metric)}: "
        f"{number(rows[i].score, metric)}<br>{rows[i].bpw:.3f} bits per weight"
        for i in own
    ]
    last = [None]
    across = list(range(len(heights)))
    return {
        **{"type": "scatter", "mode": "lines+markers", "name": f"{name} ({len(own)})"},
        "x": [x for _ in own for x in [*across, *last]],
        "y": [y for i in own for y in [*(h[i] for h in heights), *last]],
        "hovertext": [t for text in told for t in [text] * (len(heights) + 1)],
        "hoverinfo": "text",
        "connectgaps": False,
        "line": {"color": color, "width": width},
        "marker": {"color": color, "size": 4 if width < 3 else 8},
        "opacity": 1.0 if width > 1.5 else 0.75,
    }


def look_chart(look: Look, metric: str) -> Chart:
    """A look at allocations beside their full score."""
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": look.looked,
        "y": look.scores,
        "hovertext": [
            f"<b>{safe(name)}</b><br>{safe(look.name)}: {looked:.4g}<br>"
            f"full score: {number(score, metric)}"
            for name, looked, score in zip(
                look.trials, look.looked, look.scores, strict=True
            )
        ],
        "hoverinfo": "text",
        "marker": {"size": 8, "color": "front", "opacity": 0.75},
    }
    named = axis(short(look.name, 40), nticks=5), axis(metric, nticks=5)
    return chart([dots], 280, xaxis=named[0], yaxis=named[1])
