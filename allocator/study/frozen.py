"""Groups that a search stopped varying, as its study keeps them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from allocator.study.unread import as_written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.study.journal import Journal

# an attribute of a study
NARROWED = "narrowed:"


@dataclass(frozen=True)
class FrozenGroup:
    """A group that stays as it is: its choice, its share in percent, the reason."""

    group: str
    choice: str
    share: float
    reason: str


def read_frozen(journal: Journal, budget: str) -> dict[int, tuple[FrozenGroup, ...]]:
    """Decisions that a study keeps for a budget, by the number of measurements."""
    kept = journal.attribute(NARROWED + budget) or {}
    with as_written("frozen groups", journal.name):
        return {int(at): tuple(map(_read, row)) for at, row in kept.items()}


def keep_frozen(
    journal: Journal, budget: str, at: int, frozen: Sequence[FrozenGroup]
) -> None:
    """Keep a decision with its study."""
    kept = journal.attribute(NARROWED + budget) or {}
    journal.set_attribute(
        NARROWED + budget, {**kept, str(at): [asdict(each) for each in frozen]}
    )


def latest_frozen(journal: Journal, budget: str) -> list[dict[str, Any]]:
    """The latest decision for a budget, as plain data."""
    found = read_frozen(journal, budget)
    latest = found[max(found)] if found else ()
    return [{**asdict(e), "choice": e.choice.replace("/", " ")} for e in latest]


def _read(kept: Mapping[str, Any]) -> FrozenGroup:
    group, choice, reason = (str(kept[name]) for name in ("group", "choice", "reason"))
    return FrozenGroup(group, choice, float(kept["share"]), reason)
