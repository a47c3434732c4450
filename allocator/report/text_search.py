"""Recommendations, importances and scores as text for a terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.table import Table

from allocator.core.amounts import in_bytes, short
from allocator.core.exceptions import exceptions_said
from allocator.core.pins import in_words
from allocator.embedded import is_embedded
from allocator.explain.sentences import unit_of, varied
from allocator.report.console import PlainConsole, say
from allocator.report.text_gains import (
    alike_said,
    beside,
    choice_text,
    compared,
    ends,
    finalized,
    gained,
    gains,
    gains_said,
)
from evals.metrics.agreement import UNIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.study import StudySpec

TOP = 6  # groups shown by importance


def headline(asked: StudySpec) -> str:
    """The first line of a search: which model and data, and how to use one's own."""
    target = "" if asked.target == "none" else f" for {asked.target}"
    if is_embedded(asked.model) and asked.data is None:
        return (
            f"{asked.model} on {asked.task}{target}: a small trained model and drawn "
            "data that come with this package. Your own: --model FOLDER --data DIR"
        )
    data = asked.data or "the drawn data"
    return f"{asked.model} on {asked.task}{target} from {data}"


def scored(score: float, ci95: list[float]) -> str:
    """A score with its interval."""
    return f"{score:.2f} [{ci95[0]:.2f}, {ci95[1]:.2f}]"


def print_recommendation(found: Mapping[str, Any]) -> None:
    """Print a search's outcome, as `to_json` gives it."""
    console = PlainConsole()
    console.print(scores_table(found))
    console.print(_bits_map(found["recommended"]["allocation"]))
    for sentence in sentences(found):
        say(console, sentence)
    print_importance(found)
    trials = found["trials"]
    if found.get("goal") == "front":
        console.print(_front(found))
    say(
        console,
        f"{trials['complete']} proposals in study {found['study']}, "
        f"{trials['pruned']} passed over after a look; {taken(found)}. "
        f"Write it out: allocate export {found['study']} --format plan --out DIR",
    )


def taken(found: Mapping[str, Any]) -> str:
    """What a search took: samples, what was exchanged, memory and time."""
    cost, seconds = found.get("cost") or {}, found["seconds"]["total"]
    if not cost.get("peak_memory"):
        # studies of before counted samples alone
        return f"{found['evaluated_samples']:,} samples run, {seconds:.0f} s"
    peak = cost["peak_memory"]
    device = f" and {in_bytes(peak['device'])} on the GPU" if peak["device"] else ""
    return (
        f"{cost['scored']:,} samples scored and {cost['looked']:,} looked at, "
        f"{short(cost['tokens']['language'])} tokens through the language model, "
        f"{cost['swaps']:,} swaps of {short(cost['weights_swapped'])} weights; "
        f"at most {in_bytes(peak['host'])} in memory{device}, {seconds:.0f} s"
    )


def print_first_prompt(prompt: str | None) -> None:
    """Print how a search asked its first sample; studies of before did not keep it."""
    if prompt is not None:
        PlainConsole().print(f"First prompt: {prompt!r}")


def scores_table(found: Mapping[str, Any]) -> Table:
    """Sizes and scores of all that is compared, and what was gained over it."""
    full, best = found["full_precision"], found["recommended"]
    scope = found["budget"]["scope"]
    table = Table(title=f"{found['model']}, {found['task']}: {found['metric']}")
    table.add_column("allocation")
    table.add_column(f"bpw ({scope})", justify="right")
    table.add_column("score [95 %]", justify="right")
    table.add_row("full precision", "16.000", scored(full["score"], full["ci95"]))
    for name, each in compared(found):
        table.add_row(name, f"{each['bpw']:.3f}", f"{each['score']:.2f}")
    table.add_row(
        f"recommended{finalized(best)}",
        f"{best['bpw']:.3f}",
        scored(best["score"], best["ci95"]),
        style="bold",
    )
    table.add_section()
    for name, gain in gains(found):
        table.add_row(f"over {name}", "", gained(gain))
    return table


def _front(found: Mapping[str, Any]) -> Table:
    """Sizes and scores of the front; those of before are of the search set."""
    table = Table(title=f"front before finalization, {found['metric']}")
    table.add_column(f"bpw ({found['budget']['scope']})", justify="right")
    table.add_column("score [95 %]", justify="right")
    table.add_column("samples")
    for member in found["front"]:
        told, ci95 = f"{member['score']:.2f}", member.get("ci95")
        told = scored(member["score"], ci95) if ci95 else told
        samples = member.get("samples") or "search, where it was chosen"
        table.add_row(f"{member['bpw']:.3f}", told, samples)
    return table


def _bits_map(allocation: Mapping[str, Mapping[str, Any]]) -> Table:
    """Rows component.part, columns layer types."""
    cells: dict[str, dict[str, str]] = {}
    for key, choice in allocation.items():
        component, part, kind = key.split(".")
        cells.setdefault(f"{component}.{part}", {})[kind] = choice_text(choice)
    kinds = list(dict.fromkeys(kind for row in cells.values() for kind in row))
    table = Table(title="recommended bits and methods")
    table.add_column("part")
    for kind in kinds:
        table.add_column(kind)
    for name, row in cells.items():
        table.add_row(name, *(row.get(kind, "") for kind in kinds))
    return table


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The outcome in words: what was gained, whether it is more than noise."""
    best, full = found["recommended"], found["full_precision"]
    unit = unit_of(found["metric"])
    said = [
        f"{_goal(found)}, {best['bpw_quantized']:.3f} within the quantized groups; "
        f"{best['score'] - full['score']:+.2f} {unit} to full precision.",
        *_without_scores(found),
        *exceptions_said(best.get("layers")),
    ]
    said += gains_said(found) + pins_said(found)
    said += _retained(found) + _details(best, full) + alike_said(found, best)
    return said + _what_mattered(found) + _looks(found)


def _without_scores(found: Mapping[str, Any]) -> list[str]:
    """Allocations beside the recommendation that fit and were measured in vain."""
    lost = [
        name
        for name, each in beside(found)
        if each.get("fits") and each["score"] is None
    ]
    if not lost:
        return []
    return [f"Without a score, as it was no finite number: {', '.join(lost)}."]


def pins_said(found: Mapping[str, Any]) -> list[str]:
    """What was asked of single groups."""
    told = in_words(found.get("pins"))
    return [f"Pins kept, in uniform allocations too: {told}."] if told else []


def _retained(found: Mapping[str, Any]) -> list[str]:
    """What is kept of full precision, where that was the question."""
    kept = found["recommended"].get("retained")
    if found.get("goal") != "min-score" or not kept:
        return []
    low, high = kept["ci95"]
    said = (
        f"It keeps {100 * kept['share']:.1f} % of full precision's score "
        f"[{100 * low:.1f}, {100 * high:.1f}]"
    )
    # studies of before went by the mean alone
    if sure := kept.get("sure"):
        share = math.floor(1000 * sure["share"]) / 10
        said += f", with probability {100 * sure['probability']:g} % at least {share} %"
    return [f"{said}."]


def _looks(found: Mapping[str, Any]) -> list[str]:
    """What cheap looks were worth."""
    rungs = [each for each in found.get("rungs", []) if each["spearman"] is not None]
    if not rungs:
        return []
    told: dict[str, list[str]] = {}
    for each in rungs:
        # results of before predicted no others
        told.setdefault(each.get("predicted", "bank"), []).append(
            f"{each['spearman']:.2f}{ends(each)} for {each['kind']} on "
            f"{each['samples']} samples ({each['count']} allocations{_drawn(each)})"
        )
    ran, reused = found["prefix"]["ran"], found["prefix"]["reused"]
    share = 100 * reused / max(1, ran + reused)
    return [
        *(
            f"Rank correlation with the {'' if of == 'bank' else f'{of} '}score, "
            f"within a budget: {', '.join(own)}."
            for of, own in told.items()
        ),
        f"{share:.0f} % of the passes through blocks were saved, of looks and of what "
        "stands before replies.",
    ]


def _drawn(rung: Mapping[str, Any]) -> str:
    """How many of the allocations were no choice of the look's."""
    count = rung.get("controls", 0)
    return f", {count} drawn by chance" if count else ""


def _goal(found: Mapping[str, Any]) -> str:
    """What was asked for, and how large the answer is."""
    size, budget = found["recommended"]["bpw"], found["budget"]
    scope = budget["scope"]
    said = {
        "front": f"Knee of the front: {size:.3f} bpw ({scope})",
        "min-score": f"The smallest that keeps the score: {size:.3f} bpw ({scope})",
    }
    usual = f"Budget {budget['bpw']:.3f} bpw ({scope}): {size:.3f} used"
    return said.get(found.get("goal", "budget"), usual)


def _details(best: Mapping[str, Any], full: Mapping[str, Any]) -> list[str]:
    """Further figures, where the task has any."""
    told = [
        f"{name} {value:.4g} (full precision {full['details'][name]:.4g})"
        for name, value in best.get("details", {}).items()
        if name != UNIT
    ]
    return [f"{'; '.join(told)}."] if told else []


def _what_mattered(found: Mapping[str, Any]) -> list[str]:
    """The component the score hangs on, where its interval sets it apart."""
    importance = found["importance"]
    if importance["unreliable"]["component"]:
        return []
    shares = varied(importance["component"])
    if len(shares) < 2:
        return []
    first, second = sorted(shares, key=lambda name: -shares[name]["consensus"])[:2]
    if shares[first]["ci95"][0] <= shares[second]["consensus"]:
        return []
    under = " and under these pins" if in_words(found.get("pins")) else ""
    return [
        f"Around this budget{under} the score hangs most on {first}: "
        f"{shares[first]['consensus']:.0f} % of the importance."
    ]


def print_importance(found: Mapping[str, Any]) -> None:
    """Print which components and groups mattered, or why that cannot be said."""
    console, importance = PlainConsole(), found["importance"]
    table = Table(title="what mattered: consensus of forest, permutation and SHAP")
    table.add_column("part")
    table.add_column("percent", justify="right")
    table.add_column("95 %", justify="right")
    for kind in ("component", "group"):
        unreliable = importance["unreliable"][kind]
        if unreliable:
            say(console, f"Importance by {kind}: {unreliable}")
            continue
        shares = varied(importance[kind])
        top = sorted(shares, key=lambda key: -shares[key]["consensus"])[:TOP]
        for name in top:
            low, high = shares[name]["ci95"]
            percent = f"{shares[name]['consensus']:.1f}"
            table.add_row(name, percent, f"{low:.1f} to {high:.1f}")
        table.add_section()
    if table.row_count:
        console.print(table)


def print_evaluation(found: Mapping[str, Any]) -> None:
    """Print one model's score."""
    under, size = "at full precision", f"{found['bpw']:.3f} bpw (model)"
    if found["plan"]:
        under = f"under {found['plan']}"
    elif found["loader"]:
        under = f"as {found['loader']} reads it"
    if found["bpw_quantized"] is not None:
        size += f", {found['bpw_quantized']:.3f} (quantized)"
    say(
        PlainConsole(),
        f"{found['model']} {under}: {scored(found['score'], found['ci95'])} "
        f"{found['metric']} on {found['samples']} {found['task']} samples, {size}",
    )
    for name, value in found["details"].items():
        if name != UNIT:
            say(PlainConsole(), f"  {name}: {value:.4f}")
    for sentence in alike_said(found, found):
        say(PlainConsole(), sentence)
