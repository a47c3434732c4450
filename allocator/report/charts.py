"""Plotly figures of what was measured: front and bits map.

A figure is `data` and `layout` as Plotly reads them, and `narrow`: what of the layout
changes on a narrow screen, by path. Colours are names of `colours`; the page puts in
those of its scheme. Every text that comes from data goes through `safe`.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from allocator.core.exceptions import in_short
from allocator.core.text import visible
from allocator.report.colours import place
from allocator.report.text_gains import choice_text
from allocator.report.view import (
    BitsMap,
    Point,
    at,
    bits_map,
    compact,
    front_name,
    interval,
    metric_of,
    number,
    recommended,
    rivals,
    score_label,
    short,
    size_label,
    small_members,
    trials,
    uniforms,
    where,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Data = Mapping[str, Any]
    Chart = dict[str, Any]

ROW = 25  # pixels of a row
FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
SYMBOLS = ("diamond", "square", "triangle-up", "cross", "pentagon")
RIVAL_SYMBOLS = ("triangle-down", "x")


def safe(text: str) -> str:
    """Text as it is where Plotly would read it as markup."""
    return html.escape(visible(" ".join(str(text).split())), quote=False)


def chart(
    data: Sequence[Chart], height: int, narrow: Chart | None = None, **layout: Any
) -> Chart:
    """A figure with the settings that all share."""
    common = {
        "height": height,
        "autosize": True,
        "dragmode": False,
        "hovermode": "closest",
        "showlegend": False,
        "paper_bgcolor": "transparent",
        "plot_bgcolor": "transparent",
        "font": {"family": FAMILY, "size": 13, "color": "ink"},
        "margin": {"l": 12, "r": 16, "t": 12, "b": 44},
        "hoverlabel": {
            "bgcolor": "card",
            "bordercolor": "line",
            "align": "left",
            "namelength": 0,
            "font": {"family": FAMILY, "size": 12, "color": "ink"},
        },
        "legend": {
            **{"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            **{"itemclick": "toggle", "font": {"size": 12, "color": "ink"}},
        },
    }
    small = {"font.size": 12, "margin.r": 10, **(narrow or {})}
    return {"data": list(data), "layout": {**common, **layout}, "narrow": small}


def axis(title: str | None = None, **more: Any) -> Chart:
    """An axis in the style of all."""
    found: Chart = {
        "gridcolor": "line",
        "linecolor": "line",
        "zeroline": False,
        "automargin": True,
        "fixedrange": True,
        "tickfont": {"color": "soft"},
        **more,
    }
    if title:
        text = {"text": safe(title), "standoff": 10}
        found["title"] = {**text, "font": {"color": "soft", "size": 12}}
    return found


def names_axis(names: Sequence[str], **more: Any) -> Chart:
    """An axis of names from top to bottom, by place: names need not differ."""
    places = list(range(len(names)))
    return axis(
        tickmode="array",
        tickvals=places,
        ticktext=list(names),
        range=[len(names) - 0.5, -0.5],
        **{"showgrid": False, "ticks": "", "tickfont": {"color": "ink"}, **more},
    )


def hover_of(point: Point, metric: str) -> str:
    """What is told of an allocation under the pointer."""
    score = f"{number(point.score, metric)}{interval(point.ci95, metric)}"
    score += f" ({safe(point.samples)})" if point.samples else ""
    lines = [f"<b>{safe(point.name)}</b>", f"{safe(metric)}: {score}"]
    lines.append(f"{point.bpw:.3f} bits per weight")
    return "<br>".join([*lines, *map(safe, compact(point.allocation))])


def _errors(points: Sequence[Point], color: str) -> Chart:
    above = [p.ci95[1] - p.score if p.ci95 else 0 for p in points]
    below = [p.score - p.ci95[0] if p.ci95 else 0 for p in points]
    errors = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    seen = any(p.ci95 for p in points)
    return {**errors, "visible": seen, "color": color, "thickness": 1.4, "width": 4}


def _marks(points: Sequence[Point], metric: str, color: str, **more: Any) -> Chart:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [point.bpw for point in points],
        "y": [point.score for point in points],
        "hovertext": [hover_of(point, metric) for point in points],
        "hoverinfo": "text",
        "error_y": _errors(points, color),
        **more,
    }


def front_chart(data: Data) -> Chart | None:
    """Sizes and scores: trials, front, uniform allocations, the recommended one."""
    metric, best, front = metric_of(data), recommended(data), small_members(data)
    tried = trials(data)
    if not (front or tried or best):
        return None
    traces = []
    if tried:
        faint = {"size": 6, "color": "dot", "opacity": 0.55}
        traces.append(_marks(tried, metric, "dot", name="measured", marker=faint))
    if front:
        line = {"color": "front", "width": 2}
        marker = {"size": 8, "color": "front"}
        style = {"mode": "lines+markers", "line": line, "marker": marker}
        traces.append(_marks(front, metric, "front", name=front_name(front), **style))
    traces += _uniform_traces(uniforms(data), metric)
    traces += _rival_traces(rivals(data), metric)
    if best:
        edge = {"color": "card", "width": 1.5}
        star = {"symbol": "star", "size": 17, "color": "best", "line": edge}
        traces.append(_marks([best], metric, "best", name="recommended", marker=star))
    shapes, notes = _lines(data, metric)
    return chart(
        traces,
        440,
        {"margin.l": 4, "height": 430},
        showlegend=True,
        dragmode="zoom",
        shapes=shapes,
        annotations=notes,
        xaxis=axis(size_label(data), fixedrange=False),
        yaxis=axis(score_label(data), fixedrange=False),
    )


def _uniform_traces(points: Sequence[Point], metric: str) -> list[Chart]:
    traces = []
    for place_, method in enumerate(dict.fromkeys(point.method for point in points)):
        own = [point for point in points if point.method == method]
        symbol = SYMBOLS[place_ % len(SYMBOLS)]
        name = f"{where(own)} {method}" if method else "uniform allocation"
        traces.append(
            _marks(
                own,
                metric,
                "uniform",
                name=safe(short(name)),
                marker={"size": 10, "color": "uniform", "symbol": symbol},
            )
        )
    return traces


def _rival_traces(points: Sequence[Point], metric: str) -> list[Chart]:
    traces = []
    for point, symbol in zip(points, RIVAL_SYMBOLS, strict=False):
        marker = {"size": 10, "color": "uniform", "symbol": symbol}
        name = safe(point.name)
        traces.append(_marks([point], metric, "uniform", name=name, marker=marker))
    return traces


def _lines(data: Data, metric: str) -> tuple[list[Chart], list[Chart]]:
    """Full precision and the budget, with what they are called."""
    shapes: list[Chart] = []
    notes: list[Chart] = []
    label = {"showarrow": False, "font": {"size": 12, "color": "soft"}}
    full = at(data, "found", "full_precision", "score")
    if full is not None:
        line = {"color": "soft", "width": 1.3, "dash": "dash"}
        across = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": line}
        shapes.append({**across, "y0": full, "y1": full})
        text = f"full precision: {number(full, metric)}"
        where = {"xref": "paper", "x": 0.01, "xanchor": "left", "yanchor": "bottom"}
        notes.append({**label, **where, "y": full, "text": text})
    budget = at(data, "found", "budget", "bpw")
    goal = at(data, "found", "goal")
    if budget is not None and goal in (None, "budget"):
        line = {"color": "budget", "width": 1.3, "dash": "dot"}
        up = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": line}
        shapes.append({**up, "x0": budget, "x1": budget})
        where = {"yref": "paper", "y": 0.01, "yanchor": "bottom", "xanchor": "right"}
        text = f"budget {budget:.3g} "
        color = {"font": {"size": 12, "color": "budget"}}
        notes.append({**label, **where, **color, "x": budget, "text": text})
    return shapes, notes


def bits_chart(data: Data) -> Chart | None:
    """Groups times allocations: the width of each, darker for more bits."""
    found = bits_map(data)
    if not found.columns:
        return None
    cells = [[c.allocation.get(g) for c in found.columns] for g in found.groups]
    names = [short(group) for group in found.groups]
    heat = {
        "type": "heatmap",
        "z": [[place(c["bits"]) if c else None for c in row] for row in cells],
        "text": [
            [found.text(group, at_) for at_ in range(len(found.columns))]
            for group in found.groups
        ],
        "texttemplate": "%{text}",
        "textfont": {"size": 11},
        "hovertext": [
            [_cell_hover(found, group, at_) for at_ in range(len(found.columns))]
            for group in found.groups
        ],
        "hoverinfo": "text",
        "colorscale": [[at_, f"width{i}"] for i, at_ in enumerate((0, 0.34, 0.7, 1))],
        **{"zmin": 0, "zmax": 1, "xgap": 2, "ygap": 2, "showscale": False},
    }
    labels = [f"{column.bpw:.2f}" for column in found.columns]
    if found.chosen is not None:
        labels[found.chosen] = f"<b>★ {labels[found.chosen]}</b>"
    top = axis(
        size_label(data),
        side="top",
        tickmode="array",
        tickvals=list(range(len(labels))),
        ticktext=labels,
        tickangle=-90 if len(labels) > 6 else 0,
        showgrid=False,
        ticks="",
    )
    return {
        **chart(
            [heat],
            100 + 22 * len(found.groups),
            {"yaxis.ticktext": [safe(short(g, 22)) for g in found.groups]},
            margin={"l": 12, "r": 12, "t": 70, "b": 8},
            shapes=_frame(found.chosen, len(found.groups)),
            xaxis=top,
            yaxis=names_axis([safe(name) for name in names]),
        ),
        "least_width": 150 + 26 * len(labels),
    }


def _frame(chosen: int | None, rows: int) -> list[Chart]:
    """A frame around the recommended column."""
    if chosen is None:
        return []
    corners = {"x0": chosen - 0.5, "x1": chosen + 0.5, "y0": -0.5, "y1": rows - 0.5}
    return [{"type": "rect", **corners, "line": {"color": "best", "width": 2.5}}]


def _cell_hover(found: BitsMap, group: str, at_: int) -> str:
    column, within = found.columns[at_], found.within(group, at_)
    choice = column.allocation.get(group)
    told = choice_text(choice) if choice else "not decided"
    differing = f"<br>but for {safe(in_short(within))}" if within else ""
    return (
        f"<b>{safe(group)}</b><br>{safe(told)} in {safe(column.name)}, "
        f"{column.bpw:.3f} bpw{differing}"
    )
