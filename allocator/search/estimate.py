"""What a study already says about another budget, before anything is measured for it.

Needs the study's file and nothing else: no model, no torch, no transformers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.core.errors import AllocateError, BusyError, SpecError
from allocator.core.pins import KINDS as PINS
from allocator.core.study import StudySpec
from allocator.space.model import KeptSpace, within_name
from allocator.strategies._knapsack import knapsack
from allocator.study.journal import ARITHMETIC, COSTS, SPEC, Journal
from allocator.study.looks import Looks
from allocator.study.storage import default_name, study_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.core.allocation import Allocation, Choice

# what may differ within a study
FREE = (
    *("budget", "budget_scope", "front", "min_score", "strategy", "trials", "seconds"),
    *("study", "storage", "storage_timeout", "rungs", "narrowing"),
    *("cache_memory", "finalize"),
    *PINS,
)
# scores before a line through them says how far it is off
FEWEST = 4
# neighbours in damage that a prediction is made from
NEAR = 24


@dataclass(frozen=True)
class Estimate:
    """A score on the search set that is predicted, not measured.

    `spread` is the standard deviation of what such predictions miss by; `measured` and
    `looked` count what it rests on.
    """

    study: str
    allocation: Allocation
    bpw: float
    score: float
    spread: float
    measured: int
    looked: int

    @property
    def sentence(self) -> str:
        """For the terminal."""
        return (
            f"estimate: about {self.score:.2f} (within {2 * self.spread:.2f}) at "
            f"{self.bpw:.3f} bpw on the search set, from {self.measured} measured and "
            f"{self.looked} looked at in study {self.study}; nothing is measured for "
            "this budget yet"
        )


def estimate(asked: StudySpec) -> Estimate | None:
    """The best score that a budget seems to allow, where its study has begun.

    None where there is no such study, or where the budget was searched in it already.
    """
    if asked.budget is None:
        return None
    for journal in _candidates(asked):
        kept, spec = journal.attribute(COSTS), journal.attribute(SPEC)
        # a study of before says nothing of its device, and no search goes on with it
        computed = journal.attribute(ARITHMETIC)
        if kept and spec and computed and _same(asked, spec):
            return _of_study(journal, KeptSpace(kept, asked.limit, asked.pins))
    return None


def _candidates(asked: StudySpec) -> Iterator[Journal]:
    """Studies that may be the one asked for."""
    names = [asked.study] if asked.study else []
    try:
        known = study_names(asked.storage, asked.storage_timeout)
    except BusyError:
        # it was waited for: a search would wait once more
        raise
    except AllocateError:
        # a search will refuse it in its own words
        return
    if not names:
        names = [name for name in known if name.startswith(default_name(asked, ""))]
    for name in sorted(set(names) & set(known)):
        yield Journal.load(asked.storage, name, asked.storage_timeout)


def _same(asked: StudySpec, spec: dict[str, Any]) -> bool:
    """Whether a study was made for the same measurements.

    Which device "auto" is takes torch to know: it is only the same as itself.
    """
    now, spec = ({**each, "device": _kind(each)} for each in (asked.to_json(), spec))
    names = [field.name for field in fields(StudySpec) if field.name not in FREE]
    return all(_plain(now[name]) == _plain(spec.get(name)) for name in names)


def _kind(spec: dict[str, Any]) -> str:
    """Kind of the device that is asked for, whichever of them it is."""
    return str(spec.get("device", "auto")).partition(":")[0]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _of_study(journal: Journal, space: KeptSpace) -> Estimate | None:
    try:
        smallest = space.smallest
    except SpecError:
        # pins that a search will refuse in its own words
        return None
    damage = journal.damage(space)
    entries = journal.entries(space)
    begun = within_name(space) in {e.about.get("budget") for e in entries}
    measured = [(e.allocation, e.score) for e in entries if e.score is not None]
    if damage is None or begun or not measured or not space.fits(smallest):
        return None
    looks = Looks.recalled(journal.looks(space))
    done = {allocation.digest for allocation, _ in measured}
    # nothing scores above all that was measured, full precision among it, but by luck
    top = max(score for _, score in measured)
    looked = [
        (allocation, min(score, top))
        for allocation, score in looks.estimates(measured)
        if allocation.digest not in done
    ]
    known = [*measured, *looked]
    if len(known) < FEWEST:
        return None
    fitting = [pair for pair in known if space.fits(pair[0])]
    optimum = knapsack(space, damage)
    score, spread = _predicted(optimum, known, damage)
    best = max([*fitting, (optimum, min(score, top))], key=lambda pair: pair[1])
    return Estimate(
        journal.name,
        best[0],
        space.bpw(best[0]),
        best[1],
        spread,
        len(measured),
        len(looked),
    )


def _predicted(
    allocation: Allocation,
    known: list[tuple[Allocation, float]],
    damage: dict[tuple[str, Choice], float],
) -> tuple[float, float]:
    """Score and its spread, by a line through the scores of like damage."""

    def depth(each: Allocation) -> float:
        return float(np.sqrt(sum(damage.get(pair, 0.0) for pair in each)))

    at = depth(allocation)
    near = sorted(known, key=lambda pair: abs(depth(pair[0]) - at))[:NEAR]
    x, y = np.array([(depth(a), score) for a, score in near]).T
    slope = min(0.0, float(np.polyfit(x, y, 1)[0])) if np.ptp(x) > 0 else 0.0
    rest = y - slope * x
    return float(rest.mean() + slope * at), float(rest.std(ddof=2))
