"""Scores on the evaluation set, or on a part of it: taken once, kept and grown.

What an allocation was replied on a part is kept with the study, so that a larger part
asks for the rest alone, in whatever process, and for whichever budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from allocator.core.finite import is_number
from allocator.core.own import refers_to_itself
from allocator.search.measured import FAILED, Measured, recalled
from allocator.study.entry import not_finite
from allocator.study.journal import MEASURED
from allocator.study.per_sample import ORDER, PARTS
from evals.metrics.agreement import UNIT, agreeing
from evals.subsets import Subsets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.allocation import Allocation
    from allocator.core.ports import Sample, Score
    from allocator.core.watch import Watch
    from allocator.study.journal import Journal

# an attribute of a study: what full precision replied to the first samples of the order
SAID = "full precision replied"


class Evaluating(Protocol):
    """What is asked of a search that scores on the evaluation set."""

    setup: Setup
    journal: Journal
    bench: Workbench
    watch: Watch
    looks: Subsets

    @property
    def failures(self) -> Mapping[str, str]:
        """Why what was measured on the search set has no score, by digest."""

    def replied(
        self, allocation: Allocation, samples: Sequence[Sample], bench: Workbench
    ) -> Any:
        """What a bench makes of samples under an allocation, not scored yet."""

    def name_of(self, allocation: Allocation) -> str:
        """An allocation in a few words."""


def looks_of(search: Evaluating, strata: tuple[int, ...]) -> Subsets:
    """Parts of the evaluation set; the study keeps them, so that all see the same.

    One alone, which is everything, where nothing races: rankings need everything at
    once, a front and a score to keep compare more than means, and `--no-race` says so.
    """
    asked, samples = search.setup.asked, search.setup.samples["evaluation"]
    if search.setup.task.needs != "reply":
        return Subsets.whole(len(samples))
    kept = search.journal.attribute(ORDER)
    if kept is None:
        found = Subsets.of([s.image for s in samples], strata, asked.seed)
        kept = {"order": found.order, "sizes": found.sizes}
        search.journal.set_attribute(ORDER, kept)
    races = asked.race and asked.budget is not None
    sizes = kept["sizes"] if races else kept["sizes"][-1:]
    return Subsets(tuple(kept["order"]), tuple(sizes))


def evaluated(
    search: Evaluating, allocation: Allocation, bench: Workbench, size: int
) -> Measured:
    """Scores of the first samples of the order, or of as many as are known."""
    journal, space = search.journal, search.setup.space
    applied = bench.applied(allocation)
    if bench is search.bench and (reason := search.failures.get(allocation.digest)):
        return Measured(allocation, (), applied, failed=reason)
    kept = journal.attribute(MEASURED + applied)
    found = None if kept is None else recalled(allocation, kept)
    # without full precision there is no search: that may be tried again
    if found is None or (found.failed and allocation == space.full):
        part = journal.attribute(PARTS + applied) or {"replies": []}
        if len(part["replies"]) < size:
            part = _more(search, allocation, bench, part["replies"], size)
        seen = search.looks.places(len(part["values"]))
        is_part = len(part["values"]) < search.looks.total
        found = recalled(allocation, part, seen if is_part else ())
    return found


def known_samples(search: Evaluating, applied: str) -> int:
    """On how many samples some cells were scored already."""
    if search.journal.attribute(MEASURED + applied) is not None:
        return search.looks.total
    part = search.journal.attribute(PARTS + applied)
    return len(part["values"]) if part else 0


def lacking(search: Evaluating, known: int, size: int) -> list[Sample]:
    """The first `size` samples of the order without the first `known` ones."""
    samples = search.setup.samples["evaluation"]
    return [samples[place] for place in search.looks.places(size, known)]


def _more(
    search: Evaluating,
    allocation: Allocation,
    bench: Workbench,
    replies: list[Any],
    size: int,
) -> dict[str, Any]:
    """Scores of so many samples, of which some were replied to; kept with the study."""
    journal, looks = search.journal, search.looks
    samples, applied = search.setup.samples["evaluation"], bench.applied(allocation)
    places = looks.places(size)
    asked = [samples[place] for place in places]
    new = looks.places(size, len(replies))
    more = search.replied(allocation, lacking(search, len(replies), size), bench)
    known = dict(zip(looks.places(len(replies)), replies, strict=True))
    known |= dict(zip(new, more, strict=True))
    said = [known[place] for place in places]
    score: Score = bench.score_of(allocation, said, asked, samples)
    details = {**score.details, **_agreement(search, allocation, said)}
    kept: dict[str, Any] = {
        "values": list(score.values),
        "applied": applied,
        "details": {k: v for k, v in details.items() if is_number(v)},
    }
    if reason := not_finite(score.mean, score.values, [s.id for s in asked]):
        kept |= {"values": [], FAILED: reason}
        search.watch.say(f"{search.name_of(allocation)} {reason}: it is left out")
    if reason or size == looks.total:
        journal.set_attribute(MEASURED + applied, kept)
        if replies:
            journal.set_attribute(PARTS + applied, None)
    else:
        journal.set_attribute(PARTS + applied, kept | {"replies": said})
    return kept


def full_replies(search: Evaluating) -> dict[int, str]:
    """What full precision replied on the evaluation set, by place, as far as is known.

    Studies of before did not keep it.
    """
    if refers_to_itself(search.setup.task):
        samples = search.setup.samples["evaluation"]
        return {place: each.references[0] for place, each in enumerate(samples)}
    said = search.journal.attribute(SAID) or []
    return dict(zip(search.looks.places(len(said)), said, strict=True))


def _agreement(
    search: Evaluating, allocation: Allocation, said: list[Any]
) -> dict[str, float]:
    """How many replies are those of full precision, beside a score of another kind."""
    is_text = all(isinstance(reply, str) for reply in said)
    if not is_text or refers_to_itself(search.setup.task):
        return {}
    known = full_replies(search)
    if allocation == search.setup.space.full and len(said) >= len(known):
        search.journal.set_attribute(SAID, said)
        return {UNIT: 100.0}
    places = search.looks.places(len(said))
    if not known.keys() >= set(places):
        return {}
    values = agreeing(said, [known[place] for place in places])
    return {UNIT: sum(values) / len(values)}
