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
from allocator.explain.shown import Shown
from allocator.space.fronts import front
from allocator.space.model import KeptSpace, within_name
from allocator.strategies._knapsack import knapsack
from allocator.study.journal import ARITHMETIC, COSTS, SPEC, Journal
from allocator.study.looks import Looks
from allocator.study.storage import default_name, study_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation, Choice
    from allocator.space.base import Space

    Damage = Mapping[tuple[str, Choice], float]
    Floats = NDArray[np.float64]

# what may differ within a study; batches may follow the memory, given or the machine's
FREE = (
    *("budget", "budget_scope", "front", "min_score", "strategy", "trials", "seconds"),
    *("study", "storage", "storage_timeout", "rungs", "narrowing"),
    *("cache_memory", "memory", "finalize", "refine", "tune", "tune_steps"),
    *("candidates", "race", "confidence", "engine", "ray_address", "at_once"),
    *PINS,
)
# scores before a line through them says how far it is off
FEWEST = 4
# neighbours in damage that say how far a prediction is off
NEAR = 24


@dataclass(frozen=True)
class Estimate:
    """A score on the evaluation set that is predicted, not measured there.

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
            f"{self.bpw:.3f} bpw on the evaluation set, from {self.measured} measured "
            f"and {self.looked} looked at in study {self.study}, corrected for having "
            "been chosen on the search set; nothing is measured for this budget yet"
        )


def estimate(asked: StudySpec) -> Estimate | None:
    """The best score that a budget seems to allow, where its study has begun.

    A larger budget is never promised less. None where there is no such study, or where
    the budget was searched in it already.
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
    # studies of before are for no target, and of no files of a user's own
    before = {"target": StudySpec.target, "columns": [], "skip_broken": False}
    spec = {**before, **spec}
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
    entries, damage = journal.entries(space), journal.damage(space)
    begun = within_name(space) in {e.about.get("budget") for e in entries}
    shown = Shown.of(journal, space)
    can_be = shown.records and space.fits(smallest)
    if damage is None or begun or not can_be:
        return None
    measured = [(r.allocation, shown.score(d)) for d, r in shown.records.items()]
    suggested = Looks.of_study(journal, space).estimates(measured)
    known = Known.of(measured, suggested, damage)
    if len(known.scores) < FEWEST:
        return None
    allocation, score, spread = promised(known, space)
    return Estimate(
        journal.name,
        allocation,
        space.bpw(allocation),
        score,
        spread,
        len(measured),
        len(known.scores) - len(measured),
    )


def promised(known: Known, space: Space) -> tuple[Allocation, float, float]:
    """The best that a budget seems to allow: of what is known, or of least damage.

    What is known is the same for every budget, a line through it only falls as the
    damage rises, and one between the best of each size only rises: so a larger budget
    is never promised less. At sizes that were not searched the first promised up to 14
    points too much and the second as a rule too little, so their mean is given.

    Returns:
        An allocation, its score, and the standard deviation of what that misses by.
    """
    optimum = knapsack(space, known.damage)
    points = [(_fineness(space.bpw(a)), score) for a, score in known.scores]
    sizes, best = zip(*(points[place] for place in front(points)), strict=True)
    by_size = float(np.interp(_fineness(space.bpw(optimum)), sizes, best))
    by_damage = known.at(optimum)
    fitting = [pair for pair in known.scores if space.fits(pair[0])]
    between = optimum, (by_size + by_damage) / 2
    allocation, score = max([*fitting, between], key=lambda pair: pair[1])
    spread = known.spread(allocation)
    if allocation == optimum and score == between[1]:
        spread = max(spread, abs(by_size - by_damage) / 2)
    return allocation, score, spread


def _fineness(bpw: float) -> float:
    """Size as errors see it: each bit leaves a quarter of their square.

    Of a fine grid (Bennett, "Spectra of quantized signals", 1948).
    """
    return float(-(4.0**-bpw))


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of a study's scores, whatever the budget.

    Attributes:
        scores: of what was measured, as they may be shown, and then those that looks
            suggest.
        damage: the prior.
        line: depths and scores of a line that only falls.
    """

    scores: Sequence[tuple[Allocation, float]]
    damage: Damage
    line: tuple[Floats, Floats]

    @staticmethod
    def of(
        measured: Sequence[tuple[Allocation, float]],
        suggested: Sequence[tuple[Allocation, float]],
        damage: Damage,
    ) -> Known:
        """What is known of what was measured, and of what was looked at.

        The best of many looks is too good: they count as far as they told the scores
        of what was measured apart.
        """
        done, looks = {a.digest: score for a, score in measured}, dict(suggested)
        # nothing is better than all that was measured, full precision among it
        top = max(done.values())
        looked = [(a, s) for a, s in suggested if a.digest not in done]
        first = Known([*measured, *looked], damage, _line([*measured, *looked], damage))
        pairs = [
            (looks[a] - first.at(a), score - first.at(a))
            for a, score in measured
            if a in looks
        ]
        worth = _slope(pairs)
        drawn = [
            (a, min(top, first.at(a) + worth * (s - first.at(a)))) for a, s in looked
        ]
        known = [*measured, *drawn]
        return Known(known, damage, _line(known, damage))

    def at(self, allocation: Allocation) -> float:
        """What the damage of an allocation suggests."""
        return float(np.interp(_depth(allocation, self.damage), *self.line))

    def spread(self, allocation: Allocation) -> float:
        """Standard deviation of scores of like damage around the line."""
        depth = _depth(allocation, self.damage)
        near = sorted(
            self.scores, key=lambda pair: abs(_depth(pair[0], self.damage) - depth)
        )
        rest = [score - self.at(each) for each, score in near[:NEAR]]
        return float(np.std(rest, ddof=1))


def _depth(allocation: Allocation, damage: Damage) -> float:
    return float(np.sqrt(sum(damage.get(pair, 0.0) for pair in allocation)))


def _slope(pairs: Sequence[tuple[float, float]]) -> float:
    """Of a line through 0, from 0 to 1."""
    x, y = np.array(pairs or [(0.0, 0.0)]).T
    return float(np.clip(x @ y / (x @ x), 0, 1)) if x @ x > 0 else 0.0


def _line(
    known: Sequence[tuple[Allocation, float]], damage: Damage
) -> tuple[Floats, Floats]:
    """Depths and scores of the isotonic regression of scores: it only falls.

    Pool adjacent violators (Ayer et al., Annals of Mathematical Statistics 26, 1955).
    """
    blocks: list[tuple[float, float, int]] = []
    for at, score in sorted((_depth(a, damage), score) for a, score in known):
        block = at, score, 1
        while blocks and blocks[-1][1] <= block[1]:
            depth, height, count = blocks.pop()
            total = count + block[2]
            block = (
                (depth * count + block[0] * block[2]) / total,
                (height * count + block[1] * block[2]) / total,
                total,
            )
        blocks.append(block)
    depths, heights, _ = np.array(blocks).T
    return depths, heights
