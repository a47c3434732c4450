"""What was worked out of a study, kept with it by a digest of what it rests on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from allocator.core.errors import StudyError

if TYPE_CHECKING:
    from allocator.study.journal import Journal

EXPLAINED = "explained:"


def recalled(journal: Journal, what: str, rests_on: str) -> Any:
    """What was kept under a name, if it rests on the same; else None."""
    kept = journal.attribute(EXPLAINED + what) or {}
    return kept["found"] if kept.get("rests_on") == rests_on else None


def keep(journal: Journal, what: str, rests_on: str, found: Any) -> None:
    """Keep plain data under a name, in place of what was there.

    A storage that cannot be written to, or is locked, keeps nothing: it can be worked
    out again.
    """
    with suppress(StudyError):
        about = {"rests_on": rests_on, "found": found}
        journal.set_attribute(EXPLAINED + what, about)
