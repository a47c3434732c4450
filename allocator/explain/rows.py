"""What a study's importance rests on: measured proposals, and others looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import StudyError
from allocator.core.finite import is_number
from allocator.core.records import BASELINES
from allocator.explain.evidence import Evidence
from allocator.study.descent import descent
from allocator.study.journal import SPEC
from allocator.study.looks import LADDER, Looks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.allocation import Allocation
    from allocator.space.base import Space
    from allocator.study.journal import Journal

    Taken = Mapping[tuple[str, int], float]

# samples of a look that says more than the first rung's
LEAST = LADDER[1][1]


def evidence_of(
    journal: Journal, space: Space, weights: Sequence[float] | None = None
) -> Evidence:
    """Measured proposals, and other candidates with the scores that looks suggest.

    Of what keeps the pins of the space: under others, other groups matter. Baselines
    are left out where there is anything else.

    Args:
        journal: of a study.
        space: its space.
        weights: sizes of the groups, in any unit.

    Raises:
        StudyError: nothing that keeps the pins was measured in it yet.
    """
    from surrogate.imputation import impute

    rows, taken = _rows(journal, space)
    names = sorted({name for own in taken for name in own})
    kept, imputation = impute(
        [score for _, score in rows],
        [[own.get(name, np.nan) for name in names] for own in taken],
    )
    scored = [
        (rows[at][0], score)
        for at, score in zip(kept.tolist(), imputation.expected.tolist(), strict=True)
    ]
    proposal = descent(journal, space)
    # what no look led to is for itself
    clusters = [proposal.get(a.digest, -at - 1) for at, (a, _) in enumerate(scored)]
    return Evidence.of(
        space.keys,
        scored,
        weights,
        journal.attribute(SPEC)["seed"],
        clusters=np.array(clusters),
        imputation=imputation,
    )


def _rows(
    journal: Journal, space: Space
) -> tuple[list[tuple[Allocation, float]], list[Taken]]:
    """Allocations with their scores, NaN where none was measured, and their looks."""
    everything = journal.records(space)
    records = [r for r in everything if space.keeps_pins(r.allocation)]
    if not records:
        raise StudyError(
            f"nothing is measured in study {journal.name!r} yet: run its search again "
            "to finish it"
        )
    # three rows at half of the others' scores decide what a forest splits by, whatever
    # the groups do near the budget
    records = [r for r in records if r.kind not in BASELINES] or records
    looks = Looks.recalled(journal.looks(space)).looks
    rows = [(r.allocation, r.score) for r in records]
    taken: list[Taken] = [_finite(looks.get(a.digest, (a, {}))[1]) for a, _ in rows]
    done = {r.allocation.digest for r in everything}
    for digest, (allocation, seen) in looks.items():
        own = _finite(seen)
        if len(own) < len(seen):
            # what overflowed has no score that anything could suggest
            continue
        known_well = max(size for _, size in own) >= LEAST
        if known_well and digest not in done and space.keeps_pins(allocation):
            rows.append((allocation, np.nan))
            taken.append(largest(own))
    return rows, taken


def _finite(taken: Taken) -> Taken:
    return {key: value for key, value in taken.items() if is_number(value)}


def largest(taken: Taken) -> dict[tuple[str, int], float]:
    """Of each kind of look the one on the most samples."""
    most = {kind: max(n for own, n in taken if own == kind) for kind, _ in taken}
    return {(kind, size): taken[kind, size] for kind, size in most.items()}
