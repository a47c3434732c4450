"""The sections of a report page: headings, sentences and tables around the charts."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.text import visible
from allocator.explain.evidence import parts_of
from allocator.report.charts import bits_chart, front_chart
from allocator.report.charts_surrogate import MOST_ROWS, importance_chart
from allocator.report.charts_trials import trials_chart
from allocator.report.text_gains import choice_text
from allocator.report.view import (
    LEVELS,
    MARK,
    at,
    compact,
    importance,
    interval,
    lower_is_better,
    members,
    metric_of,
    number,
    recommended,
    rivals,
    trials,
    uniforms,
    unreliable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Data = Mapping[str, Any]
    Chart = dict[str, Any]


def plain(text: Any) -> str:
    """Text as it is where a browser would read it as markup."""
    return html.escape(visible(str(text)))


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_class(kind)}>{plain(text)}</p>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    numbers: Sequence[int] = (),
    marked: int | None = None,
) -> str:
    """A table; columns `numbers` stand to the right, row `marked` stands out."""
    kinds = ["number" if i in numbers else "" for i in range(len(head))]
    top = "".join(
        f'<th scope="col"{_class(kind)}>{plain(name)}</th>'
        for name, kind in zip(head, kinds, strict=True)
    )
    body = "".join(
        f"<tr{_class('best' if place == marked else '')}>"
        + "".join(
            f"<td{_class(kind)}>{plain(cell)}</td>"
            for cell, kind in zip(row, kinds, strict=True)
        )
        + "</tr>"
        for place, row in enumerate(rows)
    )
    whole = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{whole}</div>'


def folded(title: str, inner: str) -> str:
    """What opens at a click."""
    return f"<details><summary>{plain(title)}</summary>{inner}</details>"


@dataclass
class Charts:
    """The figures of a page, by the id of their place."""

    figures: dict[str, Chart] = field(default_factory=dict)

    def place(self, name: str, chart: Chart | None, label: str, title: str = "") -> str:
        """The place of a chart with what it shows in words; nothing for no chart."""
        if chart is None:
            return ""
        self.figures[name] = chart
        style = f"height:{chart['layout']['height']}px"
        if "least_width" in chart:
            style += f";min-width:{chart['least_width']}px"
        drawn = (
            f'<div class="chart" id="{name}" role="img" aria-label="{plain(label)}" '
            f'style="{style}"></div>'
        )
        if "least_width" in chart:
            drawn = f'<div class="scroll" tabindex="0">{drawn}</div>'
        head = f"<h3>{plain(title)}</h3>" if title else ""
        return f"<figure>{head}{drawn}</figure>"


SAMPLES = (
    "Scores are of the evaluation set. A trial or a member of the front that was "
    "measured on the search set alone, where it was chosen, is shown with that score "
    "less what choosing there flatters it by, as those measured on both sets tell. "
    "Trials and front are scored before finalization, the star and what it is "
    "compared with after."
)


def front_section(data: Data, charts: Charts) -> str:
    """Sizes and scores."""
    front, metric = members(data), metric_of(data)
    drawn = front_chart(data)
    if drawn is None:
        return paragraph("Nothing was measured yet.")
    lead = (
        f"{'Down' if lower_is_better(data) else 'Up'} is better, left is smaller. "
        "The line is the front: the best score measured at every size. Point at a dot "
        "to see the bits of every group."
    )
    if at(data, "found", "study"):
        lead += f" {SAMPLES}"
    label = (
        f"Score against size of {len(trials(data))} trials, {len(front)} on the front"
    )
    best = recommended(data)
    rows = [_row(point, metric) for point in front]
    marked = next(
        (i for i, point in enumerate(front) if best and point.digest == best.digest),
        None,
    )
    # a table of measurements has one set alone
    of = ("samples",) * any(point.samples for point in front)
    head = ("bpw", "score", "95 %", *of, "bits and methods")
    told = table(head, rows, (0, 1, 2), marked)
    beside = (*uniforms(data), *rivals(data))
    also = ("samples",) * any(point.samples for point in beside)
    others = [
        (
            *(point.name, f"{point.bpw:.3f}", number(point.score, metric)),
            *([point.samples or "all"] if also else []),
        )
        for point in beside
    ]
    body = paragraph(lead, "soft") + charts.place("front", drawn, label)
    if rows:
        body += folded("The front as a table", told)
    if others:
        told = table(("allocation", "bpw", "score", *also), others, (1, 2))
        body += folded("What it is compared with as a table", told)
    return body


def _row(point: Any, metric: str) -> tuple[str, ...]:
    return (
        f"{point.bpw:.3f}",
        number(point.score, metric),
        interval(point.ci95, metric).strip(),
        *([point.samples] if point.samples else []),
        "; ".join(compact(point.allocation)),
    )


def importance_section(data: Data, charts: Charts) -> str:
    """What matters, level by level."""
    drawn: dict[str, str] = {}
    sentences: dict[str, str] = {}
    for level, name in LEVELS.items():
        shares = importance(data, level)
        reason = unreliable(data, level)
        if shares and reason:
            sentences[name] = reason
        elif shares:
            label = f"Importance by {name.lower()}: " + ", ".join(
                f"{share.name} {share.percent:.0f} %" for share in shares[:MOST_ROWS]
            )
            chart = importance_chart(data, level)
            drawn[level] = charts.place(f"importance-{level}", chart, label, name)
    told = "".join(
        paragraph(f"{name}: {reason}", "note") for name, reason in sentences.items()
    )
    if not drawn:
        reason = unreliable(data, "group")
        return told or paragraph(
            reason or "Nothing can be said about what matters yet."
        )
    lead = (
        "How much of the score each part decides, in percent, with 95 % intervals: the "
        "mean of three measures (impurity, permutation and SHAP) of one random forest "
        "fitted to what was measured, and to what looks suggest of other candidates. "
        "Wide intervals mean few measurements, or looks that say little."
    )
    last = drawn.pop("group", "")
    column = f'<div class="column">{"".join(drawn.values())}</div>' if drawn else ""
    grid = f'<div class="grid">{column}{last}</div>'
    return paragraph(lead, "soft") + told + grid + _shares(data) + _models(data)


def _shares(data: Data) -> str:
    rows = [
        (share.name, f"{share.percent:.1f}", f"{share.low:.1f} to {share.high:.1f}",
         share.more)
        for level in LEVELS
        if not unreliable(data, level)
        for share in importance(data, level)
    ]  # fmt: skip
    head = ("part", "percent", "95 %", "of which")
    return folded("All parts as a table", table(head, rows, (1, 2)))


def _models(data: Data) -> str:
    models = at(data, "explained", "importance", "models") or {}
    rows = [
        (name, *("" if fit.get(k) is None else f"{fit[k]:.2f}" for k in FITS))
        for name, fit in models.items()
        if fit
    ]
    if not rows:
        return ""
    told = paragraph(
        "How well each model predicts allocations it was not fitted to; 1 is perfect, "
        "0 no better than the mean."
    )
    return folded(
        "How far to trust this",
        told + table(("model", "R2", "rank correlation"), rows, (1, 2)),
    )


FITS = ("r2", "spearman")


def bits_section(data: Data, charts: Charts) -> str:
    """Groups times allocations of the front."""
    drawn = bits_chart(data)
    if drawn is None:
        return paragraph("No allocation is known yet.")
    lead = (
        "A row for every group, a column for every allocation of the front, the "
        "smallest first; deeper colour is more bits. The framed column is recommended."
    )
    if at(data, "exceptions"):
        lead += f" In groups with {MARK} single linears differ: point at one."
    label = "Bits of every group in the allocations of the front"
    return (
        paragraph(lead, "soft")
        + charts.place("bits", drawn, label)
        + _recommended_table(data)
        + _exceptions_table(data)
    )


def _exceptions_table(data: Data) -> str:
    """Every single linear that differs from its group in the recommended allocation."""
    rows = [
        (name, group, choice_text(choice))
        for group, own in (at(data, "exceptions") or {}).items()
        for name, choice in own.items()
    ]
    if not rows:
        return ""
    told = table(("linear", "group", "bits and method"), rows)
    return folded("Single linears that differ from their groups", told)


def _recommended_table(data: Data) -> str:
    best = recommended(data)
    if best is None or not best.allocation:
        return ""
    rows: dict[str, dict[str, str]] = {}
    for key, choice in best.allocation.items():
        parts = parts_of(key)
        whole = len(parts) == 3
        row, column = (".".join(parts[:2]), parts[2]) if whole else (key, "bits")
        rows.setdefault(row, {})[column] = choice_text(choice)
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    told = [(name, *(row.get(c, "") for c in columns)) for name, row in rows.items()]
    return folded(
        "The recommended allocation as a table", table(("part", *columns), told)
    )


def trials_section(data: Data, charts: Charts) -> str:
    """Everything that was measured, as lines."""
    drawn = trials_chart(data)
    if drawn is None:
        return paragraph(
            "Fewer than two trials have a score, so there is no pattern yet."
        )
    count, rows = len(trials(data)), data.get("trials") or ()
    lead = (
        f"Each line is one of {count} measured allocations, from its bits to its size "
        "and its score; the bluest are the best. Click a name to hide its lines."
    )
    passed = sum(row.get("score") is None for row in rows)
    if passed:
        lead += f" {passed} more were only looked at and passed over."
    label = f"Parallel coordinates of {count} trials: bits, size and score"
    return paragraph(lead, "soft") + charts.place("trials", drawn, label)
