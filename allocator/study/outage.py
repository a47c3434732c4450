"""A study whose storage may go: what is finished meanwhile is handed in later.

A search that measured something for an hour does not lose it because its database is
away when it is done. What it would have written is kept in a file
(`allocator.study.unsent`), what it read last of the study serves until the work at hand
is done, and the next that has to be known of the storage ends the search in a sentence,
unless the storage is back. The next search of the study on this machine hands in what
is kept: once, and never over something newer (`allocator.study.pieces`).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from optuna.trial import TrialState

from allocator.core.errors import GoneError, StudyError
from allocator.study.once import calls_of, storage_of
from allocator.study.pieces import ATTRIBUTE, deeds, entry_of, hand_in, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from allocator.study.patience import Patience
    from allocator.study.pieces import Deed
    from allocator.study.unsent import Unsent

Written = TypeVar("Written", bound="Callable[..., None]")

# seconds between two tries of a storage that is away
AGAIN = 5.0


def deed(write: Written) -> Written:
    """Something finished that is written into a study, or kept until it can be.

    Args:
        write: takes the study and plain data; done again, it does no harm.
    """
    deeds[write.__name__] = write

    @wraps(write)
    def writing(study: optuna.Study, *given: Any) -> None:
        outage = outage_of(study)
        if outage is None:
            write(study, *given)
        else:
            outage.do(write, given)

    return cast("Written", writing)


def outage_of(study: optuna.Study) -> Outage | None:
    """What keeps the pieces of a study; None where nothing does."""
    return getattr(study._storage, "outage", None)


def bridged(study: optuna.Study, patience: Patience, unsent: Unsent) -> None:
    """Let a study outlive that its storage goes, and hand in what is kept of before.

    Raises:
        StudyError: what is kept cannot be read, or not be written.
    """
    unsent.reserve()
    outage = Outage(study, study._storage, patience, unsent)
    storage: Any = storage_of("BridgedStorage", outage.calls())
    storage.outage = outage
    study._storage = storage
    outage.hand_in()


@dataclass
class Outage:
    """What a process knows of a study's storage while that may be away.

    `begun` are trials of this process, by number; `error` says why the storage is away,
    if it is; `handed_in` counts pieces of before that are in the study now.
    """

    study: optuna.Study
    storage: BaseStorage
    patience: Patience
    unsent: Unsent
    begun: dict[int, FrozenTrial] = field(default_factory=dict)
    error: StudyError | None = None
    handed_in: int = 0
    _tried: float = float("-inf")
    _new: set[int] = field(default_factory=set)
    # attributes as they were read or written last, by the call that reads them
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def calls(self) -> dict[str, Callable[..., Any]]:
        """The storage's calls, as the study makes them."""
        found = {name: self._there(getattr(self.storage, name)) for name in calls_of()}
        return found | {
            "get_study_system_attrs": self._last(self.storage.get_study_system_attrs),
            "get_study_user_attrs": self._last(self.storage.get_study_user_attrs),
            "set_study_system_attr": self._set_attribute,
            "create_new_trial": self._create,
            "get_all_trials": self._get_trials,
        }

    @property
    def seen(self) -> dict[str, Any]:
        """What the study had, or is to have, when that was known last."""
        return self._known.setdefault("get_study_system_attrs", {})

    def do(self, write: Deed, given: Sequence[Any]) -> None:
        """Write a piece, or keep it.

        Raises:
            StudyError: neither can be done.
        """
        if self.error is None or self._is_back():
            try:
                write(self.study, *given)
                return
            except GoneError:
                raise
            except StudyError as error:
                self.error, self._tried = error, time.monotonic()
        try:
            self.unsent.keep(entry_of(write.__name__, given, self.seen, self.begun))
        except (StudyError, KeyError) as error:
            why = f", {error}" if isinstance(error, StudyError) else ""
            raise self._told(f"a result could not be written{why}") from error
        if write.__name__ == ATTRIBUTE:
            name, value = given
            self.seen[name] = json.loads(json.dumps(value))

    def hand_in(self) -> None:
        """Write what is kept into the study.

        Raises:
            StudyError: that fails; what is left stays where it is.
        """
        if not self.unsent.file.exists():
            return
        with self.unsent.alone():
            for entry in self.unsent.read():
                self.handed_in += hand_in(self.study, entry)
                self.unsent.drop(entry["key"])

    def _is_back(self) -> bool:
        """Whether the storage can be had again, and has what was kept."""
        now = time.monotonic()
        if now - self._tried < AGAIN:
            return False
        before, self.error = self.error, None
        try:
            # nothing is waited for any more
            at_once = replace(self.patience, seconds=0.0)
            at_once.patient(self.storage.get_study_system_attrs)(self.study._study_id)
            self.hand_in()
        except StudyError:
            self.error, self._tried = before, time.monotonic()
            return False
        return True

    def _told(self, lost: str = "") -> StudyError:
        """Why the search ends, and what becomes of what it has."""
        error = self.error or StudyError("")
        kept = self.unsent.read()
        more = f"; {lost}" if lost else ""
        if kept:
            more += f"; {in_words(kept)} that could not be written "
            more += "is" if len(kept) == 1 else "are"
            more += f" kept in {self.unsent.file} and handed in then"
        return type(error)(f"{error}{more}")

    def _there(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call that is made where the storage is there; else it ends the search."""

        @wraps(call)
        def made(*given: Any, **more: Any) -> Any:
            if self.error is not None and not self._is_back():
                raise self._told() from self.error
            return call(*given, **more)

        return made

    def _last(
        self, call: Callable[[int], dict[str, Any]]
    ) -> Callable[[int], dict[str, Any]]:
        """A call that reads attributes: as last seen, where the storage is away."""

        def read(study_id: int) -> dict[str, Any]:
            if self.error is None or self._is_back():
                try:
                    found = call(study_id)
                except GoneError:
                    raise
                except StudyError as error:
                    if call.__name__ not in self._known:
                        raise
                    self.error, self._tried = error, time.monotonic()
                else:
                    self._known[call.__name__] = dict(found)
                    return found
            return dict(self._known.get(call.__name__, {}))

        return read

    def _set_attribute(self, study_id: int, key: str, value: Any) -> None:
        self._there(self.storage.set_study_system_attr)(study_id, key, value)
        self.seen[key] = value

    def _create(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        call = self._there(self.storage.create_new_trial)
        found: int = call(study_id, template_trial)
        if template_trial is not None and template_trial.state == TrialState.RUNNING:
            self._new.add(found)
        return found

    def _get_trials(self, *given: Any, **more: Any) -> list[FrozenTrial]:
        call = self._there(self.storage.get_all_trials)
        found: list[FrozenTrial] = call(*given, **more)
        if self._new:
            begun = {t.number: t for t in found if t._trial_id in self._new}
            self.begun |= begun
            self._new -= {trial._trial_id for trial in begun.values()}
        return found
