"""Who is at work on a study, and what they tell each other: records with leases.

A study that several processes work on has a companion in the same storage. Each process
has a record there, a running trial: one that leads says for which goal and how far it
is, one that serves has a mailbox, into which its leader writes what is to be done and
it what came out. A record whose owner is dead (`study/owners.py`) counts as gone.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import TrialState

from allocator.core.errors import GoneError, StudyError
from allocator.study.attributes import keep, kept_under
from allocator.study.database import beginning_of
from allocator.study.owners import LEASE, OWNER, Leases, new_owner, renewed
from allocator.study.storage import BOARD, open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna.trial import FrozenTrial

# attributes of a record; a leader's goal, request and stage; whom a worker serves; the
# letters of a mailbox
ROLE, GOAL, REQUEST, STAGE, SERVES = "role", "goal", "request", "stage", "serves"
TOLD, SAID, READY = "told", "said", "ready"
LEADER, WORKER = "leader", "worker"
# stages of a leader: it measures full precision; the bank is made, by all; pieces are
# given away; it came to its end, or was interrupted
BEGUN, BANK, OPEN, DONE, STOPPED = "begun", "bank", "open", "done", "stopped"
RUNNING = (TrialState.RUNNING,)
# characters that a letter begins with, its number among them
GLANCE = 80


@dataclass(frozen=True)
class Record:
    """A process at work, as its record was when it was read."""

    key: int
    number: int
    about: Mapping[str, Any]
    is_dead: bool = False

    @property
    def token(self) -> str:
        """What names its owner."""
        return str(self.about[OWNER])

    @property
    def stage(self) -> str:
        """How far a leader is."""
        return str(self.about.get(STAGE, BEGUN))

    @property
    def sentence(self) -> str:
        """Its owner, for people."""
        return str(self.about.get("shown", ""))

    def letter(self, name: str) -> dict[str, Any]:
        """What was told, or said, last; empty where nothing was."""
        found: dict[str, Any] = kept_under(name, self.about) or {}
        return found


@dataclass
class Board:
    """The records of a study; each process has a connection of its own."""

    url: str
    storage: Any
    name: str
    study: int
    leases: Leases = field(default_factory=Leases)
    # names of parts of large letters, by record and name
    _parts: dict[tuple[int, str], tuple[str, ...]] = field(default_factory=dict)

    @staticmethod
    def open(url: str, study: str, timeout: float) -> Board:
        """The board of a study, made first if there is none.

        Args:
            url: of the storage, which exists.
            study: its name.
            timeout: how long to wait while the storage is locked, in seconds.

        Raises:
            StudyError: the storage cannot be had. So does all of the below.
        """
        storage = open_storage(url, create=False, timeout=timeout)
        name = study + BOARD
        with suppress(DuplicatedStudyError):
            storage.create_new_study([StudyDirection.MAXIMIZE], name)
        return Board(url, storage, name, storage.get_study_id_from_name(name))

    def is_there_again(self) -> bool:
        """Whether others have made another, where this one was taken away."""
        try:
            self.study = self.storage.get_study_id_from_name(self.name)
        except GoneError:
            return False
        return True

    @contextmanager
    def record(self, role: str, about: Mapping[str, Any]) -> Iterator[Record]:
        """Have a record for as long as this process is at work."""
        owner = new_owner()
        token = str(owner)
        known = {**about, ROLE: role, "shown": owner.sentence}
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            system_attrs={**known, OWNER: token, LEASE: time.time()},
        )
        key = self.storage.create_new_trial(self.study, trial)
        with renewed(self.url, key, token):
            try:
                yield self.read(key)
            except BaseException:
                # what ends it counts, and not that a storage is away as well
                with suppress(StudyError):
                    self.remove(key)
                raise
            self.remove(key)

    def remove(self, key: int) -> None:
        """Take a record away, whoever's it is."""
        with suppress(UpdateFinishedTrialError, StudyError):
            self.storage.set_trial_state_values(key, TrialState.FAIL)

    def clear(self) -> None:
        """Take the board away, if nobody is left and nothing was left undone.

        Raises:
            GoneError: by whoever reads it later; opened again it is empty.
        """
        if not (self.unfinished() or self.living(LEADER) or self.living(WORKER)):
            self.storage.delete_study(self.study)

    def unfinished(self) -> Record | None:
        """The latest leader that did not come to its end, and nobody after it did."""
        latest = {record.about.get(GOAL): record for record in self.ended()}
        left = [each for each in latest.values() if each.stage != DONE]
        return max(left, key=lambda each: each.number, default=None)

    def read(self, key: int) -> Record:
        """A record as it is now."""
        return self._record(self.storage.get_trial(key))

    def glance(self, key: int, name: str) -> str:
        """What tells one letter in a record from the next, without reading it."""
        found = beginning_of(self.storage, key, name, GLANCE)
        if found is None:
            found = json.dumps(self.read(key).about.get(name, ""))[:GLANCE]
        return found

    def records(self, role: str) -> list[Record]:
        """Records in a role, in order; those of dead processes are marked."""
        running = self.storage.get_all_trials(self.study, False, RUNNING)
        found = (t for t in running if t.system_attrs.get(ROLE) == role)
        return [self._record(trial) for trial in found]

    def living(self, role: str) -> list[Record]:
        """Records whose owners are at work."""
        return [each for each in self.records(role) if not each.is_dead]

    def ended(self) -> list[Record]:
        """Records of leaders that are gone, in order."""
        trials = self.storage.get_all_trials(self.study, False)
        found = (t for t in trials if t.system_attrs.get(ROLE) == LEADER)
        records = [self._record(trial) for trial in found]
        return [each for each in records if each.is_dead]

    def set(self, key: int, name: str, value: Any) -> None:
        """Write into a record; large values in parts, those of before are emptied."""
        before = self._parts.pop((key, name), ())

        def put(at: str, own: Any) -> None:
            self.storage.set_trial_system_attr(key, at, own)

        parts = keep(put, name, value)
        for each in set(before) - set(parts):
            put(each, None)
        if parts:
            self._parts[key, name] = parts

    def _record(self, trial: FrozenTrial) -> Record:
        gone = trial.state.is_finished() or self.leases.is_dead(trial)
        return Record(trial._trial_id, trial.number, trial.system_attrs, gone)
