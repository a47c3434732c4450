"""What a report shows of the models behind it: looks, contributions, interactions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.report.text_gains import ends
from allocator.report.view import at, lower_is_better, short
from allocator.study.looks import Looks, correlation

if TYPE_CHECKING:
    from collections.abc import Mapping

    Data = Mapping[str, Any]

# bars of a waterfall, and pairs
MOST_BARS = 12
MOST_PAIRS = 10


@dataclass(frozen=True)
class Look:
    """A cheap look at allocations beside their full score.

    `ends` is the interval of the correlation in words, "" where it has none.
    """

    name: str
    trials: list[str]
    looked: list[float]
    scores: list[float]
    correlation: float | None
    count: int
    ends: str = ""


def looks(data: Data) -> list[Look]:
    """Every kind of look that has allocations with a full score.

    Of proposals alone where looks are judged among these: what differs from them as
    much as baselines do agrees with any look.
    """
    rows = [row for row in data.get("trials") or () if row.get("score") is not None]
    rungs = at(data, "found", "rungs") or ()
    if judged_within_budgets(data):
        rows = [row for row in rows if row.get("kind") == "proposal"]
    kinds = dict.fromkeys(kind for row in rows for kind in row.get("looks") or {})
    told = {Looks.name(each["kind"], each["samples"]): each for each in rungs}
    found = []
    for kind in kinds:
        own = [row for row in rows if (row.get("looks") or {}).get(kind) is not None]
        looked = [float(row["looks"][kind]) for row in own]
        scores = [float(row["score"]) for row in own]
        rung = told.get(kind)
        # what falls where the score rises counts as agreement
        sign = 1 if kind.startswith("score") else -1
        pairs = zip((sign * look for look in looked), scores, strict=True)
        found.append(
            Look(
                kind,
                [f"trial {row['number']}" for row in own],
                looked,
                scores,
                rung["spearman"] if rung else correlation(list(pairs)),
                rung["count"] if rung else len(own),
                ends(rung or {}),
            )
        )
    return found


def judged_within_budgets(data: Data) -> bool:
    """Whether looks are judged among proposals; in studies of before they are not."""
    return any("controls" in each for each in at(data, "found", "rungs") or ())


@dataclass(frozen=True)
class Waterfall:
    """A waterfall: from the mean of all, part by part, to what is predicted."""

    mean: float
    predicted: float
    parts: list[tuple[str, float]]
    measured: float | None


def waterfall(data: Data) -> Waterfall | None:
    """Contributions to the recommended allocation, the largest first; or None."""
    chosen = at(data, "explained", "allocation") or {}
    parts = chosen.get("contributions")
    if not parts or None in (chosen.get("mean"), chosen.get("predicted")):
        return None
    order = sorted(parts.items(), key=lambda part: -abs(part[1]))
    shown = order
    if len(order) > MOST_BARS:
        rest = order[MOST_BARS - 1 :]
        total = sum(value for _, value in rest)
        shown = [*order[: MOST_BARS - 1], (f"{len(rest)} more groups", total)]
    return Waterfall(chosen["mean"], chosen["predicted"], shown, chosen.get("score"))


def side_of(part: float, data: Data) -> str:
    """The colour of a contribution: "up" for the better, "down" for the worse."""
    return "down" if (part > 0 if lower_is_better(data) else part < 0) else "up"


@dataclass(frozen=True)
class PairEffect:
    """A pair of parts: how strongly they act together, or how much more they cost."""

    first: str
    second: str
    value: float
    strength: float | None = None
    ci95: tuple[float, float] | None = None
    basis: str = ""

    @property
    def lines(self) -> tuple[str, str]:
        """Its name in two lines."""
        return short(self.first), f"× {short(self.second)}"  # noqa: RUF001


def pairs(data: Data, level: str = "group") -> list[PairEffect]:
    """Pairs that act together, the strongest first; value in percent of all effects."""
    told = at(data, "explained", "interactions", level) or []
    found = [
        PairEffect(each["first"], each["second"], each["share"], each.get("strength"))
        for each in told
        if each.get("share") is not None
    ]
    return sorted(found, key=lambda pair: -pair.value)[:MOST_PAIRS]


def joint(data: Data) -> list[PairEffect]:
    """Pairs of parts quantized together: value in score units, above 0 is worse."""
    return [
        PairEffect(
            each["first"],
            each["second"],
            each["excess"],
            None,
            tuple(each["ci95"]) if each.get("ci95") else None,
            f"{each.get('basis') or 'fitted'}, from {each.get('count') or 'some'}",
        )
        for each in at(data, "explained", "together") or []
        if each.get("excess") is not None
    ]
