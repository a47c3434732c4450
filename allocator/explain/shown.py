"""Scores as they are shown: of samples that nobody chose on, or corrected for that.

A search chooses on the search set, by looks at a part of it and by scores on all of it,
so that what it chose scores better there than it is. What was measured on the
evaluation set as well is shown with that score, as the bank has its weights; everything
else with its score on the search set, corrected (`evals.optimism`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.core.finite import is_number
from allocator.core.records import FrontMember, Interval
from allocator.space.fronts import front
from allocator.study.journal import MEASURED
from allocator.study.per_sample import EVALUATION_STRATA, ORDER, PARTS, STRATA
from evals.interval import bootstrap
from evals.optimism import SIDE, Elsewhere, look_optimism
from evals.racing import completed
from evals.splits import spread_places
from evals.subsets import Subsets

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from allocator.core.records import TrialRecord
    from allocator.space.base import Space
    from allocator.study.journal import Journal

    Values = Mapping[str, Sequence[float]]

EVALUATION, CORRECTED = "evaluation", "search, corrected"
PROPOSAL = "proposal"


@dataclass(frozen=True, eq=False)
class Shown:
    """What a study measured, by digest, with the scores that may be shown.

    Attributes:
        records: everything measured in full on the search set.
        search: scores of its samples, where they were kept.
        evaluation: scores of the samples of the evaluation set, of what was measured
            there with the bank's weights; what was measured on a part of them is
            completed by full precision (`evals.racing.completed`).
        looked: sizes of the looks by which proposals were chosen.
        strata: sizes of the parts of the search set, and of the evaluation set.
        parts: of what was measured on a part, the mean there and its samples.
    """

    records: Mapping[str, TrialRecord]
    search: Values
    evaluation: Values
    looked: Collection[int] = ()
    strata: tuple[Sequence[int], Sequence[int]] = ((), ())
    parts: Mapping[str, tuple[float, int]] = field(default_factory=dict)

    @staticmethod
    def of(journal: Journal, space: Space) -> Shown:
        """What a study keeps."""
        records = {r.allocation.digest: r for r in journal.records(space)}
        strata = journal.attribute(EVALUATION_STRATA) or ()
        whole, parts = (
            _by_digest(journal, start, records) for start in (MEASURED, PARTS)
        )
        found = {**_completed(journal, whole, parts, records, strata), **whole}
        return Shown(
            records,
            journal.sample_scores(space),
            {digest: found[digest] for digest in records if digest in found},
            {size for _, _, (_, size), _ in journal.looks(space)},
            (journal.attribute(STRATA) or (), strata),
            {
                digest: (_mean(own), len(own))
                for digest, own in parts.items()
                if digest in found and digest not in whole
            },
        )

    @cached_property
    def _places(self) -> dict[str, int]:
        """Rows of `_elsewhere`: what has a score for each sample of the search set."""
        kept = [digest for digest in self.records if digest in self.search]
        return {digest: place for place, digest in enumerate(kept)}

    @cached_property
    def _elsewhere(self) -> Elsewhere:
        """The search set's scores as the evaluation set would give them."""
        digests = list(self._places)
        values = np.array([self.search[digest] for digest in digests])
        total = max(map(len, self.evaluation.values()), default=values.shape[1])
        told = [
            self.parts.get(digest, (_mean(self.evaluation.get(digest)), total))
            for digest in digests
        ]
        own = [self.records[digest] for digest in digests]
        groups = [(r.budget, r.limit) if _is_chosen(r) else None for r in own]
        looked = np.zeros(values.shape[1], dtype=bool)
        for size in self.looked:
            looked[spread_places(len(looked), size)] = True
        chosen = np.array([group is not None for group in groups])
        return Elsewhere(
            values,
            np.array([mean for mean, _ in told]),
            [size for _, size in told],
            groups,
            look_optimism(values, chosen, looked, self.strata[0]),
            self.strata[0],
        )

    def samples(self, digest: str) -> str:
        """Which samples the score of an allocation is from."""
        return EVALUATION if digest in self.evaluation else CORRECTED

    def score(self, digest: str) -> float:
        """The score of an allocation that was measured."""
        if digest in self.evaluation:
            return _mean(self.evaluation[digest])
        if digest in self._places:
            return float(self._elsewhere.scores[self._places[digest]])
        return self.records[digest].score - self._gap(_is_chosen(self.records[digest]))

    def ci95(self, digest: str) -> tuple[float, float] | None:
        """Its 95 % interval, that of the correction in it; None where nothing tells."""
        if digest in self.evaluation:
            found = bootstrap(self.evaluation[digest], strata=self.strata[1])
            return found.low, found.high
        if digest not in self._places:
            return None
        place = self._places[digest]
        side = SIDE * float(self._elsewhere.covariance[place, place]) ** 0.5
        return self.score(digest) - side, self.score(digest) + side

    def difference(self, digest: str, other: str) -> Interval | None:
        """An allocation's score less another's, paired; None where nothing tells."""
        if digest in self.evaluation and other in self.evaluation:
            pairs = zip(self.evaluation[digest], self.evaluation[other], strict=True)
            return bootstrap([a - b for a, b in pairs], strata=self.strata[1])
        if not {digest, other} <= self._places.keys():
            return None
        signs = np.zeros(len(self._places))
        signs[self._places[digest]], signs[self._places[other]] = 1, -1
        mean = float(signs @ self._elsewhere.scores)
        side = SIDE * max(0.0, float(signs @ self._elsewhere.covariance @ signs)) ** 0.5
        return Interval(mean, mean - side, mean + side)

    def _gap(self, is_chosen: bool) -> float:
        """By how much those chosen there, or not, score better on the search set."""
        both = [self.records[digest] for digest in self.evaluation]
        alike = [r for r in both if _is_chosen(r) == is_chosen] or both
        gaps = [r.score - self.score(r.allocation.digest) for r in alike]
        return sum(gaps) / len(gaps) if gaps else 0.0

    def front(self, space: Space) -> tuple[FrontMember, ...]:
        """Non-dominated allocations that keep the pins, by rising size.

        The search set says which, and the scores that are shown which of those a
        smaller one beats after all.
        """
        records = [r for r in self.records.values() if space.keeps_pins(r.allocation)]
        best = front([(record.bpw, record.score) for record in records])
        digests = [records[place].allocation.digest for place in best]
        points = [(self.records[d].bpw, self.score(d)) for d in digests]
        return tuple(
            FrontMember(
                self.records[digest].allocation,
                *points[place],
                self.samples(digest),
                self.ci95(digest),
            )
            for place in front(points)
            for digest in (digests[place],)
        )


def _is_chosen(record: TrialRecord) -> bool:
    """Whether it was chosen by samples of the search set; chance draws controls."""
    return record.kind == PROPOSAL and not record.control


def _by_digest(
    journal: Journal, start: str, records: Mapping[str, TrialRecord]
) -> Values:
    """Scores on the evaluation set, or on parts of it, of the bank's weights alone."""
    kept = {
        each["applied"]: each["values"]
        for each in filter(None, journal.attributes(start))
        if each["values"] and all(map(is_number, each["values"]))
    }
    return {d: kept[r.applied] for d, r in records.items() if r.applied in kept}


def _completed(
    journal: Journal,
    whole: Values,
    parts: Values,
    records: Mapping[str, TrialRecord],
    strata: Sequence[int],
) -> Values:
    """Scores of a part as those of the whole set, where full precision has all."""
    kept = journal.attribute(ORDER)
    full = [d for d, record in records.items() if record.kind == "full" and d in whole]
    if not kept or not full:
        return {}
    looks, beside = Subsets(tuple(kept["order"]), ()), np.array(whole[full[0]])
    return {
        digest: completed(
            np.array(own), np.array(looks.places(len(own))), beside, strata
        ).tolist()
        for digest, own in parts.items()
    }


def _mean(values: Sequence[float] | None) -> float:
    return sum(values) / len(values) if values else float("nan")


def front_rows(shown: Shown, space: Space) -> list[dict[str, Any]]:
    """The front of a study as plain data: `FrontMember.to_json` and the allocation."""
    return [
        {**member.to_json(), "allocation": member.allocation.to_json()}
        for member in shown.front(space)
    ]


def indistinguishable(
    shown: Shown, members: Sequence[FrontMember], digest: str
) -> list[dict[str, Any]]:
    """Members of a front whose score cannot be told from an allocation's.

    Compared as the bank has both: the 95 % interval of the difference (member less
    allocation) holds 0.
    """
    if digest not in shown.records:
        return []
    found = []
    for member in members:
        own = member.allocation.digest
        difference = None if own == digest else shown.difference(own, digest)
        if difference and difference.low <= 0 <= difference.high:
            both = {shown.samples(own), shown.samples(digest)}
            found.append(
                {
                    "digest": own,
                    "bpw": member.bpw,
                    "score": member.score,
                    "samples": EVALUATION if both == {EVALUATION} else CORRECTED,
                    "difference": difference.mean,
                    "ci95": difference.ci95,
                }
            )
    return found
