"""Sections of a report page about the models behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.report.charts_surrogate import joint_chart, pairs_chart, waterfall_chart
from allocator.report.charts_trials import look_chart
from allocator.report.sections import Charts, paragraph, plain, table
from allocator.report.view import at, lower_is_better, metric_of, number, unreliable
from allocator.report.view_surrogate import judged_within_budgets, looks, waterfall

if TYPE_CHECKING:
    from collections.abc import Mapping

    Data = Mapping[str, Any]


def looks_section(data: Data, charts: Charts) -> str:
    """Cheap looks beside full scores; nothing where none were taken."""
    found = looks(data)
    if not found:
        return ""
    lead = (
        "Most candidates get only a cheap look on few samples. A look is worth "
        "something if it ranks allocations as the full score does: a rank correlation "
        "near 1. It is counted so that above 0 a better look means a better score."
    )
    if judged_within_budgets(data):
        lead += (
            " It is of proposals of one budget, and candidates looked at well, by "
            "scores of samples that the look did not see, corrected for what looks "
            "chose; the dots are the proposals that were measured in full."
        )
    places = []
    for i, look in enumerate(found):
        told = "unknown" if look.correlation is None else f"{look.correlation:.2f}"
        told = f"rank correlation {told}{look.ends} ({look.count} allocations)"
        chart = look_chart(look, metric_of(data))
        places.append(
            charts.place(f"look-{i}", chart, f"{look.name}: {told}", look.name)
            .replace("</h3>", f"</h3><figcaption>{plain(told)}</figcaption>", 1)
        )  # fmt: skip
    return paragraph(lead, "soft") + f'<div class="grid small">{"".join(places)}</div>'


def waterfall_section(data: Data, charts: Charts) -> str:
    """Why the recommended allocation scores as it does, and what lies beside it."""
    fall, metric = waterfall(data), metric_of(data)
    reason = unreliable(data, "group")
    if reason:
        return paragraph(
            f"This cannot be told from these measurements. {reason}", "note"
        )
    if fall is None:
        return paragraph("There is no explanation of a single allocation.")
    sides = "raise (blue) or lower (orange)"
    if lower_is_better(data):
        sides = "lower (blue, which is better) or raise (orange)"
    lead = (
        "The forest starts from the mean of all it learned from; every group's bits "
        f"then {sides} what it expects."
    )
    if fall.measured is not None:
        lead += f" Measured: {number(fall.measured, metric)}."
    label = (
        f"From {number(fall.mean, metric)} to {number(fall.predicted, metric)}: "
        + ", ".join(f"{n} {number(v, metric, sign=True)}" for n, v in fall.parts)
    )
    drawn = charts.place("waterfall", waterfall_chart(data), label)
    return paragraph(lead, "soft") + drawn + _steps(data)


def _steps(data: Data) -> str:
    metric, said = metric_of(data), []
    for key, title in (("more", "A little larger"), ("less", "A little smaller")):
        found = at(data, "explained", "allocation", key) or {}
        rows = [
            (step["group"], _whole(step["from"]), _whole(step["to"]),
             f"{step['bpw']:+.3f}", number(step["score"], metric, sign=True))
            for step in found.get("steps") or ()
        ]  # fmt: skip
        if rows:
            head = ("group", "from", "to", "bpw", "score, predicted")
            head_line = f"{title}, about {found['bpw']:+g} bits per weight"
            told = table(head, rows, (3, 4))
            said.append(f"<div><h3>{plain(head_line)}</h3>{told}</div>")
    return f'<div class="grid">{"".join(said)}</div>' if said else ""


def _whole(choice: str) -> str:
    """Bits and method on one line."""
    return str(choice).replace(" ", "\N{NO-BREAK SPACE}")


def interactions_section(data: Data, charts: Charts) -> str:
    """Parts that act together."""
    reason = at(data, "explained", "interactions", "reason")
    drawn = []
    if not reason:
        for level, title in (("group", "By group"), ("component", "By component")):
            label = f"Pairs that act together, {title.lower()}"
            chart = pairs_chart(data, level)
            drawn.append(charts.place(f"pairs-{level}", chart, label, title))
    together = charts.place(
        "together",
        joint_chart(data),
        "What two parts quantized together cost beyond the sum of each alone",
        "Quantized together: lost beyond the sum of each alone",
    )
    first, *rest = drawn or [""]
    rest = [each for each in [*rest, together] if each]
    told = paragraph(str(reason), "note") if reason else ""
    if not first and not rest:
        return told or paragraph("No pair of parts was found to act together.")
    lead = (
        "Two parts act together where what one of them costs depends on the other. "
        "Strengths are SHAP interaction values of boosted trees."
    )
    fit = at(data, "explained", "interactions", "holdout_r2")
    if fit is not None:
        lead += f" On rows held out these explain {max(0.0, 100 * fit):.0f} %."
    column = f'<div class="column">{"".join(rest)}</div>' if rest else ""
    grid = f'<div class="grid">{first}{column}</div>'
    return paragraph(lead, "soft") + told + grid
