"""How sure scores of the search set are, and which cannot be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.study.per_sample import STRATA
from evals.interval import bootstrap

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.allocation import Allocation
    from allocator.space.base import Space
    from allocator.study.journal import Journal


def front_intervals(
    journal: Journal, space: Space, members: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Members of a front with 95 % intervals over the search set, and their choices.

    `members` have a digest, bits per weight and a score; an interval is None where the
    score of each sample was not kept.
    """
    values, allocations = journal.sample_scores(space), _by_digest(journal, space)
    strata = journal.attribute(STRATA) or ()
    found = []
    for member in members:
        own = values.get(member["digest"])
        found.append(
            {
                **member,
                "ci95": bootstrap(own, strata=strata).ci95 if own else None,
                "allocation": allocations[member["digest"]].to_json(),
            }
        )
    return found


def indistinguishable(
    journal: Journal, space: Space, members: Sequence[Mapping[str, Any]], digest: str
) -> list[dict[str, Any]]:
    """Members of a front whose score cannot be told from an allocation's.

    Compared on the same samples of the search set, as the bank has both: the 95 %
    interval of the mean paired difference (member less allocation) holds 0.
    """
    values, strata = journal.sample_scores(space), journal.attribute(STRATA) or ()
    if digest not in values:
        return []
    found = []
    for member in members:
        own = values.get(member["digest"])
        if own is None or member["digest"] == digest:
            continue
        pairs = zip(own, values[digest], strict=True)
        difference = bootstrap([a - b for a, b in pairs], strata=strata)
        if difference.low <= 0 <= difference.high:
            told = {name: member[name] for name in ("digest", "bpw", "score")}
            ci95 = difference.ci95
            found.append({**told, "difference": difference.mean, "ci95": ci95})
    return found


def _by_digest(journal: Journal, space: Space) -> dict[str, Allocation]:
    return {entry.digest: entry.allocation for entry in journal.entries(space)}
