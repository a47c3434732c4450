"""What comes first in a report: what is recommended, how large, and how good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.exceptions import exceptions_said
from allocator.core.pins import in_words
from allocator.explain.sentences import unit_of
from allocator.report.sections import plain
from allocator.report.text_gains import alike_said
from allocator.report.view import (
    Point,
    at,
    best_of,
    interval,
    lower_is_better,
    metric_of,
    number,
    recommended,
    rivals,
    score_label,
)
from allocator.report.view import uniforms as uniforms_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    Data = Mapping[str, Any]


def rival_of(data: Data) -> Point | None:
    """The best uniform allocation no larger than the budget, or than the answer."""
    best = recommended(data)
    if best is None:
        return None
    goal = at(data, "found", "goal") or "budget"
    limit = at(data, "found", "budget", "bpw") if goal == "budget" else None
    limit = best.bpw if limit is None else limit
    fitting = [each for each in uniforms_of(data) if each.bpw <= limit]
    return best_of(fitting, data)


def summary(data: Data) -> str:
    """The outcome in one paragraph."""
    best, metric = recommended(data), metric_of(data)
    if best is None:
        return "Nothing is recommended yet: no search has finished."
    return " ".join([_what(data, best, metric), *_beside(data, best, metric)])


def _what(data: Data, best: Point, metric: str) -> str:
    model, task = at(data, "found", "model"), at(data, "found", "task")
    table = at(data, "explained", "table")
    of = f"For {model} on {task}" if model and task else "Of these measurements"
    if table and not model:
        of = f"Of what was read of {table}"
    budget = at(data, "found", "budget", "bpw")
    goals = {
        "front": " (the knee of the front)",
        "min-score": " (the smallest that keeps the score asked for)",
    }
    room = goals.get(at(data, "found", "goal") or "budget", "")
    if not room and budget is not None:
        room = f" (the budget is {budget:.3g})"
    words = in_words(at(data, "found", "pins"))
    pins = f" It keeps the pins {words}, as do the uniform allocations." * bool(words)
    score = f"{number(best.score, metric)}{interval(best.ci95, metric)}"
    sure = "; brackets hold 95 % intervals" if best.ci95 else ""
    lower = " (lower is better)" if lower_is_better(data) else ""
    return (
        f"{of}, the recommended allocation takes {best.bpw:.3f} bits per weight{room} "
        f"and scores {score} in {metric}{lower}{sure}.{pins}"
    )


def _beside(data: Data, best: Point, metric: str) -> list[str]:
    said = []
    full = at(data, "found", "full_precision", "score")
    if full is not None:
        said.append(f"That is {_to_full(best.score, full, metric)}.")
    said += exceptions_said(at(data, "found", "recommended", "layers"))
    # tables recommend nothing that says anything
    if told := at(data, "found", "recommended"):
        said += alike_said(data["found"], told)
    return [
        *said,
        *_over_uniform(data, best, metric),
        *_over_rivals(data, best, metric),
    ]


def _over_uniform(data: Data, best: Point, metric: str) -> list[str]:
    rival = rival_of(data)
    if rival is None:
        return []
    widths = {(c["bits"], c.get("method") or "") for c in best.allocation.values()}
    alike = len(widths) == 1 and best.bpw == rival.bpw
    if best.digest == rival.digest if rival.digest else alike:
        return [
            f"Nothing better than {rival.name} was found: it is the recommendation."
        ]
    gain, ci95 = _gain(data, best, rival)
    return [
        f"The best uniform allocation within the same limit, {rival.name}, scores "
        f"{number(rival.score, metric)}: {_difference(gain, ci95, metric)}."
    ]


def _over_rivals(data: Data, best: Point, metric: str) -> list[str]:
    """The even mix and the additive optimum, where they were measured."""
    said = []
    for rival in rivals(data):
        if rival.digest == best.digest:
            said.append(f"It is the {rival.name} of this size itself.")
            continue
        gain, ci95 = _gain(data, best, rival)
        said.append(
            f"The {rival.name} of the same size scores {number(rival.score, metric)}: "
            f"{_difference(gain, ci95, metric)}."
        )
    return said


def _difference(gain: float, ci95: Any, metric: str) -> str:
    told = f"{number(gain, metric, sign=True)}{interval(ci95, metric, sign=True)}"
    noise = ", which is within the noise" if ci95 and ci95[0] <= 0 <= ci95[1] else ""
    return f"the difference is {told} {unit_of(metric)}{noise}"


def _to_full(score: float, full: float, metric: str) -> str:
    """Where a score lies beside that of full precision."""
    told = f"full precision ({number(full, metric)})"
    if score == full:
        return f"the score of {told}"
    side = "below" if score < full else "above"
    return f"{number(abs(score - full), metric)} {unit_of(metric)} {side} {told}"


def _gain(data: Data, best: Point, rival: Point) -> tuple[float, Any]:
    gain = at(data, "found", "recommended", f"vs_{rival.kind}") or {}
    difference = gain.get("difference")
    if difference is None:
        return best.score - rival.score, None
    return difference, gain.get("ci95")


def tiles(data: Data) -> str:
    """The same in a few figures."""
    best, metric = recommended(data), metric_of(data)
    if best is None:
        return ""
    budget = at(data, "found", "budget", "bpw")
    full = at(data, "found", "full_precision", "score")
    rival = rival_of(data)
    beside = "" if budget is None else f"of {budget:.3g} in the budget"
    if (at(data, "found", "goal") or "budget") != "budget":
        beside = "bits per weight"
    shown = [
        ("Size, bits per weight", f"{best.bpw:.3f}", beside),
        (
            f"Score, {score_label(data)}",
            number(best.score, metric),
            interval(best.ci95, metric).strip(),
        ),
    ]
    if full is not None:
        gap = number(best.score - full, metric, sign=True)
        shown.append(("To full precision", gap, f"it scores {number(full, metric)}"))
    over = "Against" if lower_is_better(data) else "Over"
    for name, each in [
        *([(rival.name, rival)] if rival else []),
        *((f"the {each.name}", each) for each in rivals(data)),
    ]:
        gain, ci95 = _gain(data, best, each)
        told = interval(ci95, metric, sign=True).strip()
        shown.append(
            (
                f"{over} {name}",
                number(gain, metric, sign=True),
                told or f"it scores {number(each.score, metric)}",
            )
        )
    return '<dl class="tiles">' + "".join(
        f'<div class="tile{" first" * (place == 0)}"><dt>{plain(name)}</dt>'
        f'<dd><span class="figure">{plain(figure)}</span>'
        f'<span class="beside">{plain(more)}</span></dd></div>'
        for place, (name, figure, more) in enumerate(shown)
    ) + "</dl>"  # fmt: skip
