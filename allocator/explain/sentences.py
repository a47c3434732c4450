"""An explanation in sentences, for people who never saw a SHAP value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.exceptions import exceptions_said
from allocator.core.pins import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Explained = Mapping[str, Any]

# parts named in one sentence
NAMED = 3
# a holdout R2 below which interactions are not put into words
TOLD_R2 = 0.3
# a linear model this much worse than the forest leaves something out
WORSE = 0.1


def unit_of(metric: str) -> str:
    """What a difference of scores is counted in."""
    return "points" if "%" in metric else metric.split()[0]


def sentences(explained: Explained) -> list[str]:
    """What an explanation comes to, most important first."""
    importance, unit = explained["importance"], unit_of(explained["metric"])
    reason = importance["unreliable"]["group"]
    if reason:
        said = [f"Nothing can be said about what matters: {_lower(reason)}"]
    else:
        said = [*_what_matters(importance), *_rests_on(importance)]
        said += _how_sure(importance)
        said += _interactions(explained["interactions"], unit)
    said += _constants(importance) + _together(explained["together"], unit)
    if importance["warning"]:
        said.append(importance["warning"])
    if told := in_words(explained.get("pins")):
        said.append(f"Only allocations that keep the pins count here: {told}.")
    if explained["allocation"]:
        said += _allocation(explained["allocation"], explained, unit)
    return said + _narrowed(explained["narrowed"])


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _listed(words: Iterable[str]) -> str:
    """One, two and three.

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    *first, last = list(words)
    return f"{', '.join(first)} and {last}" if first else last


def number(value: float, unit: str, *, sign: bool = False) -> str:
    """A score, or a difference with its sign, in the figures its unit deserves."""
    if unit == "points":
        return f"{value:+.2f}" if sign else f"{value:.2f}"
    return f"{value:+.3g}" if sign else f"{value:.4g}"


def _score(value: float, unit: str, *, sign: bool = False) -> str:
    return f"{number(value, unit, sign=sign)} {unit}"


def _interval(ci95: Iterable[float], unit: str) -> str:
    low, high = (number(end, unit, sign=True) for end in ci95)
    return f"[{low}, {high}]"


def varied(shares: Mapping[str, Any]) -> dict[str, Any]:
    """Shares of what varied in the rows.

    What never did may matter all the same: its share is 0 for want of a look.
    """
    return {name: each for name, each in shares.items() if each["ci95"][1] > 0}


def _ranked(shares: Mapping[str, Any]) -> list[str]:
    return sorted(shares, key=lambda name: -shares[name]["consensus"])


def _percent(name: str, share: Mapping[str, Any]) -> str:
    low, high = share["ci95"]
    return f"{name} ({share['consensus']:.0f} %, {low:.0f} to {high:.0f})"


def _what_matters(importance: Mapping[str, Any]) -> list[str]:
    said = []
    shares = varied(importance["component"]) or varied(importance["group"])
    first, *rest = _ranked(shares)
    if rest:
        clear = shares[first]["ci95"][0] > shares[rest[0]]["ci95"][1]
        lead = "What decides the score most is" if clear else "Most seems to hang on"
        others = _listed(_percent(name, shares[name]) for name in rest[:NAMED])
        said.append(f"{lead} {_percent(first, shares[first])}; then {others}.")
    groups = varied(importance["group"])
    if importance["component"] and len(groups) > NAMED:
        best = _ranked(groups)[:NAMED]
        told = _listed(_percent(name, groups[name]) for name in best)
        said.append(f"Of the {len(groups)} groups it is above all {told}.")
    return said


def _rests_on(importance: Mapping[str, Any]) -> list[str]:
    """What was measured of it, and what only looks suggest."""
    measured = importance.get("measured", importance["rows"])
    looked = importance["rows"] - measured
    if not looked:
        return []
    worth = importance["worth"] - measured
    return [
        f"This rests on {measured} allocations that were measured and {looked} that "
        f"were looked at on fewer samples, which tell about as much as {worth:.0f} "
        "measured ones; the intervals count what looks leave open."
    ]


def _how_sure(importance: Mapping[str, Any]) -> list[str]:
    models, agreement = importance["models"], importance["agreement"].get("group")
    forest, linear = models["forest"]["r2"], models["linear"]["r2"]
    if forest is None or linear is None:
        return []
    said = (
        f"On allocations it has not seen, the forest behind these figures explains "
        f"{max(0.0, 100 * forest):.0f} % of what {_scores(importance)}, a straight "
        f"line through the bits {max(0.0, 100 * linear):.0f} %"
    )
    if forest - linear > WORSE:
        said += ", so bits do not simply add up"
    if agreement is not None:
        said += (
            f"; its three measures of importance agree with rank correlation "
            f"{agreement:.2f}"
        )
    return [f"{said}."]


def _scores(importance: Mapping[str, Any]) -> str:
    if importance.get("measured", importance["rows"]) < importance["rows"]:
        return "scores, measured and suggested, vary by"
    return "the score varies by"


def _constants(importance: Mapping[str, Any]) -> list[str]:
    names = importance["constant"]
    if not names:
        return []
    verb = "has" if len(names) == 1 else "have"
    return [
        f"{_listed(names)} {verb} the same bits in every row: nothing can be said of "
        f"{'it' if len(names) == 1 else 'them'}."
    ]


def _interactions(found: Mapping[str, Any], unit: str) -> list[str]:
    pairs = found["group"]
    if not pairs or found["reason"] or (found["holdout_r2"] or 0) < TOLD_R2:
        return []
    best = pairs[0]
    return [
        f"The pair that acts together most is {best['first']} and {best['second']}: "
        f"what one of them costs depends on the other by about "
        f"{_score(best['strength'], unit)} (boosted trees, R2 "
        f"{found['holdout_r2']:.2f} on rows held out)."
    ]


def _together(effects: Iterable[Mapping[str, Any]], unit: str) -> list[str]:
    said = []
    for each in effects:
        both = f"Quantizing {each['first']} and {each['second']} together"
        low, high = each["ci95"]
        size = _score(abs(each["excess"]), unit)
        basis = (
            f"{each['count']} comparisons measured"
            if each["basis"] == "measured"
            else f"a fit to {each['count']} allocations"
        )
        told = f"{_interval(each['ci95'], unit)}, from {basis}"
        much, known = "as much as", ", as far as can be told"
        if low > 0 or high < 0:
            much, known = f"{size} {'more' if low > 0 else 'less'} than", ""
        said.append(f"{both} costs {much} the sum of each alone{known} ({told}).")
    return said


def _allocation(
    chosen: Mapping[str, Any], explained: Explained, unit: str
) -> list[str]:
    said = exceptions_said(chosen.get("layers"))
    if said:
        said.append("What is told of the chosen allocation is of its groups alone.")
    if not explained["importance"]["unreliable"]["group"]:
        parts = chosen["contributions"]
        order = sorted(parts, key=lambda name: -abs(parts[name]))[:NAMED]
        told = _listed(f"{n} ({_score(parts[n], unit, sign=True)})" for n in order)
        gap = _score(chosen["predicted"] - chosen["mean"], unit, sign=True)
        gap += "" if explained["higher_is_better"] else " (lower is better)"
        said.append(
            f"The forest expects {_score(chosen['predicted'], unit)} of the chosen "
            f"allocation, {gap} against the mean of all it learned from; most of "
            f"that comes from {told}."
        )
        said += _steps(chosen, unit, explained["higher_is_better"])
    return said + _equal(chosen, unit)


def _steps(chosen: Mapping[str, Any], unit: str, higher_is_better: bool) -> list[str]:
    said = []
    for name, lead in (("more", "more would buy"), ("less", "less would cost")):
        found = chosen[name]
        size = f"{abs(found['bpw']):g} bits per weight {lead}"
        if not found["steps"]:
            said.append(f"What {size} cannot be said: {_lower(found['reason'])}")
            continue
        steps = found["steps"]
        moves = _listed(f"{s['group']} from {s['from']} to {s['to']}" for s in steps)
        total = sum(step["score"] for step in steps)
        # what is bought of a loss is less of it
        side = "" if higher_is_better else " less" if total < 0 else " more"
        told = f"{_score(abs(total), unit)}{side}"
        said.append(f"{size} about {told}: {moves} (predicted).")
    return said


def _equal(chosen: Mapping[str, Any], unit: str) -> list[str]:
    members = chosen["equal"]
    if not members:
        return []
    told = _listed(
        f"{each['bpw']:.3f} bits per weight "
        f"({_score(each['difference'], unit, sign=True)} "
        f"{_interval(each['ci95'], unit)}, {each['samples']})"
        for each in members
    )
    return [f"Before finalization it cannot be told from the front's {told}."]


def _narrowed(frozen: Iterable[Mapping[str, Any]]) -> list[str]:
    names = [f"{each['group']} at {each['choice']}" for each in frozen]
    if not names:
        return []
    return [
        f"During the search {_listed(names)} stayed fixed, as they hardly mattered."
    ]
