"""Plotly figures of the models behind a search: importance, waterfall, interactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.report.charts import ROW, axis, chart, names_axis, safe
from allocator.report.view import (
    importance,
    interval,
    metric_of,
    number,
    score_label,
    short,
)
from allocator.report.view_surrogate import PairEffect, joint, pairs, side_of, waterfall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Data = Mapping[str, Any]
    Chart = dict[str, Any]

# rows of a chart; all of them are in the table below it
MOST_ROWS = 24


def importance_chart(data: Data, level: str) -> Chart | None:
    """The share of every part with its interval, the most important first."""
    shares = importance(data, level)[:MOST_ROWS]
    if not shares:
        return None
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [share.percent for share in shares],
        "y": list(range(len(shares))),
        "hovertext": [
            f"<b>{safe(share.name)}</b><br>{share.percent:.1f} % "
            f"[{share.low:.1f}, {share.high:.1f}]<br>{safe(share.more)}"
            for share in shares
        ],
        "hoverinfo": "text",
        "marker": {"size": 10, "color": "front"},
        "error_x": {
            **{"type": "data", "symmetric": False, "color": "front", "width": 4},
            "array": [share.high - share.percent for share in shares],
            "arrayminus": [share.percent - share.low for share in shares],
            "thickness": 1.6,
        },
    }
    names = [share.name for share in shares]
    return chart(
        [dots],
        62 + ROW * len(shares),
        {"yaxis.ticktext": [safe(short(name, 22)) for name in names]},
        xaxis=axis("percent of the importance", rangemode="tozero", nticks=6),
        yaxis=names_axis([safe(short(name)) for name in names], showgrid=True),
    )


def waterfall_chart(data: Data) -> Chart | None:
    """From the mean of all to the predicted score, a bar for every group."""
    fall, metric = waterfall(data), metric_of(data)
    if fall is None:
        return None
    starts, ends, reached = [], [], fall.mean
    for _, part in fall.parts:
        starts.append(reached)
        reached += part
        ends.append(reached)
    rows = list(range(1, len(starts) + 1))
    names = ["mean of all", *(name for name, _ in fall.parts), "predicted"]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": rows,
        "x": [part for _, part in fall.parts],
        "base": starts,
        "width": 0.62,
        "text": [number(part, metric, sign=True) for _, part in fall.parts],
        "textposition": "outside",
        "textfont": {"color": "ink", "size": 11},
        "constraintext": "none",
        "cliponaxis": False,
        "hovertext": [
            f"<b>{safe(name)}</b><br>{number(part, metric, sign=True)} {safe(metric)}"
            for name, part in fall.parts
        ],
        "hoverinfo": "text",
        "marker": {"color": [side_of(v, data) for _, v in fall.parts]},
    }
    ticks = [safe(short(name)) for name in names]
    low, high = min([*starts, *ends]), max([*starts, *ends])
    return chart(
        [bars, _ends(fall.mean, fall.predicted, len(names), metric)],
        66 + ROW * len(names),
        {"yaxis.ticktext": [safe(short(name, 22)) for name in names]},
        shapes=_stairs([fall.mean, *ends]),
        xaxis=axis(score_label(data), range=_padded(low, high), nticks=6),
        yaxis=names_axis(ticks),
    )


def _padded(low: float, high: float) -> list[float]:
    """A range with room for the figures beside its bars."""
    room = 0.35 * (high - low) or 1.0
    return [low - room, high + room]


def _ends(mean: float, predicted: float, count: int, metric: str) -> Chart:
    named = ("mean of all", mean), ("predicted", predicted)
    # away from the label of the axis: the row of the mean has no bar
    sides = ("left", "right") if predicted < mean else ("right", "left")
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [mean, predicted],
        "y": [0, count - 1],
        "text": [number(mean, metric), f"<b>{number(predicted, metric)}</b>"],
        "textposition": [f"middle {side}" for side in sides],
        "textfont": {"color": "ink", "size": 12},
        "hovertext": [f"<b>{name}</b><br>{number(v, metric)}" for name, v in named],
        "hoverinfo": "text",
        "marker": {"symbol": "diamond", "size": 11, "color": ["soft", "best"]},
    }


def _stairs(reached: Sequence[float]) -> list[Chart]:
    """A thin line from the end of every bar to the start of the next."""
    line = {"color": "soft", "width": 1, "dash": "dot"}
    return [
        {"type": "line", "x0": x, "x1": x, "y0": row, "y1": row + 1, "line": line}
        for row, x in enumerate(reached)
    ]


def pairs_chart(data: Data, level: str) -> Chart | None:
    """Pairs that act together, the strongest first."""
    found, metric = pairs(data, level), metric_of(data)
    if not found:
        return None
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": [pair.value for pair in found],
        "y": list(range(len(found))),
        "width": 0.5,
        "hovertext": [
            f"<b>{safe(pair.first)} × {safe(pair.second)}</b><br>"  # noqa: RUF001
            f"{pair.value:.1f} % of all effects"
            + (f"<br>about {pair.strength:.3g} {safe(metric)}" * bool(pair.strength))
            for pair in found
        ],
        "hoverinfo": "text",
        "marker": {"color": "front"},
    }
    return chart(
        [bars],
        62 + 38 * len(found),
        xaxis=axis("percent of all effects", rangemode="tozero", nticks=6),
        yaxis=names_axis([_two_lines(pair) for pair in found]),
    )


def _two_lines(effect: PairEffect) -> str:
    return "<br>".join(map(safe, effect.lines))


def joint_chart(data: Data) -> Chart | None:
    """What two parts quantized together cost beyond the sum of each alone."""
    found, metric = joint(data), metric_of(data)
    if not found:
        return None
    ends = [each.ci95 or (each.value, each.value) for each in found]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [each.value for each in found],
        "y": list(range(len(found))),
        "error_x": {
            **{"type": "data", "symmetric": False, "color": "front", "width": 4},
            "array": [
                high - each.value for each, (_, high) in zip(found, ends, strict=True)
            ],
            "arrayminus": [
                each.value - low for each, (low, _) in zip(found, ends, strict=True)
            ],
        },
        "hovertext": [
            f"<b>{safe(each.first)} and {safe(each.second)}</b><br>"
            f"{number(each.value, metric, sign=True)}"
            f"{interval(each.ci95, metric, sign=True)} {safe(metric)}<br>"
            f"{safe(each.basis)}"
            for each in found
        ],
        "hoverinfo": "text",
        "marker": {"size": 10, "color": "front"},
    }
    zero = {"type": "line", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
    line = {"color": "soft", "width": 1.2, "dash": "dash"}
    return chart(
        [dots],
        70 + 42 * len(found),
        shapes=[{**zero, "line": line}],
        xaxis=axis("lost beyond the sum, in score units", nticks=6),
        yaxis=names_axis([_two_lines(each) for each in found], showgrid=True),
    )
