"""What a study's searches came to, as it keeps them: one for each goal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.errors import StudyError
from allocator.core.finite import without_overflow
from allocator.study.journal import RESULTS
from allocator.study.storage import without_password
from allocator.study.unread import as_written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.records import Recommendation
    from allocator.study.journal import Journal

RECOMMENDED, LATEST = RESULTS, "latest"


def keep_recommendation(
    journal: Journal, goal: str, found: Recommendation, plan: Mapping[str, Any]
) -> None:
    """Keep what a search came to, and its plan; it is the latest now."""
    kept = {"found": found.to_json(), "plan": dict(plan)}
    journal.set_attribute(RECOMMENDED + goal, kept)
    journal.set_attribute(LATEST, goal)


def recommendation(journal: Journal) -> dict[str, Any]:
    """A study's latest recommendation, {"found": ..., "plan": ...}.

    Raises:
        StudyError: the study has not come to one yet.
    """
    latest = journal.attribute(LATEST)
    with as_written("its recommendation", journal.name):
        kept = {} if latest is None else journal.attribute(RECOMMENDED + latest)
        found = _with_scores(kept["found"]) if kept else None
    if found is None:
        raise StudyError(
            f"study {journal.name!r} has no recommendation yet: "
            "run its search again to finish it"
        )
    # one of before may hold a password
    return {**kept, "found": without_password(found)}


def _with_scores(found: dict[str, Any]) -> dict[str, Any] | None:
    """A recommendation without numbers that are not finite; None if it hangs on one.

    Studies of before may keep them.
    """
    told: dict[str, Any] = without_overflow(found)
    if told == found:
        return found
    scores = (told[name]["score"] for name in ("recommended", "full_precision"))
    if None in scores:
        return None
    front = [member for member in told["front"] if member["score"] is not None]
    return {**told, "front": front}


def latest_recommendation(journal: Journal) -> dict[str, Any] | None:
    """The JSON of a study's latest recommendation, or None."""
    try:
        found: dict[str, Any] = recommendation(journal)["found"]
    except StudyError:
        return None
    return found


def plan_of(journal: Journal, found: Recommendation) -> dict[str, Any]:
    """The plan of a recommendation that was made in a study.

    Raises:
        StudyError: the study keeps another one for its goal by now.
    """
    for kept in journal.attributes(RECOMMENDED):
        own = kept["found"]["recommended"]
        if (own["applied"], own["finalized"]) == (found.applied, found.finalized):
            plan: dict[str, Any] = kept["plan"]
            return plan
    raise StudyError(
        f"study {journal.name!r} no longer keeps this recommendation: a later search "
        "with the same goal came to another"
    )
