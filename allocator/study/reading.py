"""Trials read as entries and records: each once, for as long as nothing changes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from allocator.core.records import TrialRecord
from allocator.study.entry import CONTROL, entry_of
from allocator.study.trials import is_lost

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optuna.trial import FrozenTrial

    from allocator.space.base import Space
    from allocator.study.entry import Entry


@dataclass
class Reading:
    """What was read of a study's trials so far.

    A finished trial stays as it is, so that it is read once; records are those of one
    space, the latest they were asked for.
    """

    _entries: dict[int, Entry] = field(default_factory=dict)
    _records: dict[int, tuple[Entry, TrialRecord]] = field(default_factory=dict)
    _space: Space | None = None

    def entries(self, trials: Iterable[FrozenTrial], space: Space) -> list[Entry]:
        """Those trials that allocate, and that no other came before."""
        known, found = self._entries, []
        for trial in trials:
            number = trial.number
            kept = known.get(number)
            if kept is None or not kept.state.is_finished():
                kept = _entry(trial, kept, space)
            if kept is not None:
                known[number] = kept
                found.append(kept)
        return found

    def records(self, entries: Iterable[Entry], space: Space) -> list[TrialRecord]:
        """Those that were measured in full."""
        if space is not self._space:
            self._space = space
            self._records.clear()
        return [self._record(e, space) for e in entries if e.score is not None]

    def _record(self, entry: Entry, space: Space) -> TrialRecord:
        known = self._records.get(entry.number)
        if known is None or known[0] is not entry:
            known = self._records[entry.number] = entry, _record(entry, space)
        return known[1]


def _entry(trial: FrozenTrial, known: Entry | None, space: Space) -> Entry | None:
    if is_lost(trial) or not trial.params:
        return None
    allocation = known.allocation if known else space.allocation(trial.params)
    return entry_of(trial, allocation, allocation.digest)


def _record(entry: Entry, space: Space) -> TrialRecord:
    assert entry.score is not None
    return TrialRecord(
        entry.allocation,
        float(entry.score),
        # as kept it may be in the scope of another budget
        space.bpw(entry.allocation),
        entry.about["kind"],
        entry.about.get("applied", ""),
        entry.about.get("budget"),
        entry.about.get("limit"),
        bool(entry.about.get(CONTROL)),
    )
