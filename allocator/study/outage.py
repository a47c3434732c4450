"""A study whose storage may go: what is finished meanwhile is handed in later.

A search that measured something for an hour does not lose it because its database is
away when it is done. What it would have written is kept in a file
(`allocator.study.unsent`), what it read last of the study serves until the work at hand
is done, and the next that has to be known of the storage ends the search in a sentence,
unless the storage is back. The next search of the study on this machine hands in what
is kept: once, and never over something newer (`allocator.study.pieces`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from allocator.core.errors import GoneError, StudyError
from allocator.study.once import calls_of, storage_of
from allocator.study.pieces import ATTRIBUTE, hand_in, in_words, with_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from allocator.study.patience import Patience
    from allocator.study.pieces import Piece
    from allocator.study.unsent import Unsent

# seconds between two tries of a storage that is away
AGAIN = 5.0
# what is read of a study: attributes of this program's, and what people are shown
SYSTEM, USER = "system", "user"


def tell(study: optuna.Study, piece: Piece, write: Callable[[], None]) -> None:
    """Write something finished into a study, or keep it until it can be.

    Args:
        study: where it belongs.
        piece: what it is (`allocator.study.pieces`).
        write: writes it.

    Raises:
        StudyError: it can neither be written nor kept; outside of a search, it cannot
            be written.
    """
    outage = outage_of(study)
    if outage is None:
        write()
    else:
        outage.tell(piece, write)


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
    storage: Any = storage_of("BridgedStorage", outage.calls(), outage.storage)
    storage.outage = outage
    study._storage = storage
    outage.hand_in()


@dataclass
class Outage:
    """What a process knows of a study's storage while that may be away.

    `begun` are trials of this process, by number; `error` says why the storage is away,
    if it is; `handed_in` counts pieces of before that are in the study now, and `renew`
    is called once some are: others may have to read the study anew.
    """

    study: optuna.Study
    storage: BaseStorage
    patience: Patience
    unsent: Unsent
    begun: dict[int, FrozenTrial] = field(default_factory=dict)
    error: StudyError | None = None
    handed_in: int = 0
    renew: Callable[[], None] = lambda: None
    _tried: float = float("-inf")
    # of the storage: trials of this process whose numbers are not known yet
    _new: set[int] = field(default_factory=set)
    # as they were read last; written since; kept in the file since
    _known: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _written: dict[str, Any] = field(default_factory=dict)
    _kept: dict[str, Any] = field(default_factory=dict)

    def calls(self) -> dict[str, Callable[..., Any]]:
        """The storage's calls, as the study makes them."""
        storage = self.storage
        found = {name: self.there(getattr(storage, name)) for name in calls_of()}

        def system(study_id: int) -> Mapping[str, Any]:
            return self.read(SYSTEM, lambda: storage.get_study_system_attrs(study_id))

        def user(study_id: int) -> Mapping[str, Any]:
            return self.read(USER, lambda: storage.get_study_user_attrs(study_id))

        return found | {
            "get_study_system_attrs": system,
            "get_study_user_attrs": user,
            "set_study_system_attr": self._set_attribute,
            "create_new_trial": self._create,
            "get_all_trials": self._get_trials,
        }

    def tell(self, piece: Piece, write: Callable[[], None]) -> None:
        """Write a piece, or keep it.

        Raises:
            StudyError: neither can be done.
        """
        if self.error is None or self._is_back():
            try:
                write()
            except GoneError:
                raise
            except StudyError as error:
                self._is_gone(error)
            else:
                self._knows(piece, self._written)
                return
        seen = {**self._known.get(SYSTEM, {}), **self._written}
        try:
            self.unsent.keep(with_context(piece, seen, self.begun))
        except (StudyError, KeyError) as error:
            why = f", {error}" if isinstance(error, StudyError) else ""
            raise self._told(f"a result could not be written{why}") from error
        self._knows(piece, self._kept)

    def read(
        self, what: str, call: Callable[[], Mapping[str, Any]]
    ) -> Mapping[str, Any]:
        """Attributes of the study: as they were last, where the storage is away.

        Args:
            what: SYSTEM or USER.
            call: reads them.

        Raises:
            StudyError: the storage is away, and nothing was read before.
        """
        if self.error is None or self._is_back():
            try:
                found = call()
            except GoneError:
                raise
            except StudyError as error:
                if what not in self._known:
                    raise
                self._is_gone(error)
            else:
                self._known[what] = dict(found) if isinstance(found, dict) else found
                if what == SYSTEM:
                    self._written.clear()
                    self._kept.clear()
                return found
        own = {**self._written, **self._kept} if what == SYSTEM else {}
        return {**self._known.get(what, {}), **own}

    def there(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call that is made where the storage is there; else it ends the search."""

        @wraps(call)
        def made(*given: Any, **more: Any) -> Any:
            if self.error is not None and not self._is_back():
                raise self._told() from self.error
            return call(*given, **more)

        return made

    def hand_in(self) -> None:
        """Write what is kept into the study.

        Raises:
            StudyError: that fails; what is left stays where it is.
        """
        if not self.unsent.file.exists():
            return
        before = self.handed_in
        with self.unsent.alone():
            for piece in self.unsent.read():
                self.handed_in += hand_in(self.study, piece)
                self.unsent.drop(piece["key"])
        if self.handed_in > before:
            self.renew()

    def _knows(self, piece: Piece, place: dict[str, Any]) -> None:
        """Note what an attribute is from here on."""
        if piece["kind"] == ATTRIBUTE:
            place |= piece["values"]

    def _is_gone(self, error: StudyError) -> None:
        self.error, self._tried = error, time.monotonic()

    def _is_back(self) -> bool:
        """Whether the storage can be had again, and has what was kept."""
        if time.monotonic() - self._tried < AGAIN:
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

    def _set_attribute(self, study_id: int, key: str, value: Any) -> None:
        self.there(self.storage.set_study_system_attr)(study_id, key, value)
        self._written[key] = value

    def _create(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        call = self.there(self.storage.create_new_trial)
        found: int = call(study_id, template_trial)
        if template_trial is not None and template_trial.state == TrialState.RUNNING:
            self._new.add(found)
        return found

    def _get_trials(self, *given: Any, **more: Any) -> list[FrozenTrial]:
        call = self.there(self.storage.get_all_trials)
        found: list[FrozenTrial] = call(*given, **more)
        if self._new:
            begun = {t.number: t for t in found if t._trial_id in self._new}
            self.begun |= begun
            self._new -= {trial._trial_id for trial in begun.values()}
        return found
