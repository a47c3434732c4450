"""Calls to a storage that wait while it is locked or away, and fail in a sentence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from allocator.core.clock import Clock
from allocator.core.errors import (
    BusyError,
    GoneError,
    StorageError,
    StudyError,
    first_line,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Found = TypeVar("Found")

# what storages raise: databases through SQLAlchemy, files that cannot be read or
# written, lines of a file that are no JSON, a study that somebody has deleted, rows
# that Optuna has not written
FAILURES = (
    *(StorageInternalError, SQLAlchemyError, OSError, ValueError, LookupError),
    *(AttributeError, RecursionError),
)
# parts of messages of SQLite, PostgreSQL and MySQL. Another holds what is wanted, and
# the transaction is undone:
LOCKED = (
    *("locked", "locking protocol", "deadlock", "lock wait", "lock timeout"),
    *("could not obtain lock", "could not serialize"),
)
# another makes the tables at this moment:
BEING_MADE = (
    *("already exists", "unique constraint", "duplicate", "no such table"),
    *('relation "', "doesn't exist"),
)
# a server that comes up or goes down
COMING = ("starting up", "shutting down", "in recovery mode")
# a server is not there just now, or the folder of a file:
AWAY = (
    *("connection refused", "closed the connection", "lost connection", "gone away"),
    *("connection was closed", "connection has been closed", "connection is lost"),
    *("connection is closed", "connection reset", "connection timed out"),
    *("terminating connection", *COMING),
    *("connection is bad", "connection failed", "can't connect", "timeout expired"),
    *("broken pipe", "no route to host", "network is unreachable", "stale file"),
    # what follows in a session whose connection was lost
    *("invalid transaction is rolled back", "connection is busy"),
    *("failed to resolve", "name resolution", "unable to open database", "disk i/o"),
)
# what was under way when a storage went may have been done; twice these do no harm
REPEATABLE = (
    *("get_", "set_study_", "set_trial_system_attr", "set_trial_user_attr"),
    # of a name that exists the second is refused, which whoever makes one expects
    "create_new_study",
)
# what Optuna says of a study or a trial that is not there
MISSING = "record does not exist"
# seconds: tables are made in far less; of pauses, each twice the one before
MAKING, FIRST_PAUSE, LONGEST_PAUSE = 5.0, 0.02, 1.0
HINTS = {
    "readonly": "make it and its folder writable, and leave them where they are",
    "unable to open": "see that it is a file, in a folder that can be written to",
    "permission denied": "make it and its folder readable and writable",
    "is full": "make room on its disk",
    "quota": "make room on its disk",
    "no space": "make room on its disk",
    "too large": "make room on its disk",
    "not a database": "restore a copy, or take another: it is no database",
    "malformed": "restore a copy, or move it away: it is damaged",
    "disk i/o": "see to its disk, and that it is not moved or removed",
    "no such table": "it was replaced by another: put it back",
    "connection refused": "see that its server runs, and can be reached",
    "failed to resolve": "see that its server can be reached by this name",
    "no module named": "install this driver, or take another",
}


@dataclass(frozen=True)
class Patience:
    """How long a storage is waited for, and what is said behind that.

    `name` is the storage's for messages, `seconds` how long a lock or an outage is
    waited for, `file` what has to be there, where it is no server.
    """

    name: str
    seconds: float
    file: Path | None = None

    def opening(self, make: Callable[[], Found]) -> Found:
        """Make or open what is shared, whoever else is making it.

        Raises:
            StudyError: it cannot be opened, or is locked for too long.
        """
        try:
            return self._waited(make, _opens_later)
        except StudyError:
            raise
        except Exception as error:
            # the drivers raise whatever they like for a URL they cannot use
            advice = hint(error) or (
                "take a database URL such as sqlite:///studies.db, or a file FILE.log"
            )
            raise StudyError(
                f"storage {self.name!r} cannot be opened ({said(error)}): {advice}"
            ) from error

    def patient(
        self,
        call: Callable[..., Found],
        happened: Callable[..., Found | None] | None = None,
    ) -> Callable[..., Found]:
        """A call to an open storage, which waits and fails as `opening` does.

        What is locked has done nothing, even where the lock is met at the end of a
        transaction: SQLite, PostgreSQL and MySQL then undo it, and so does Optuna. So
        it is safe to write once more. A server that went away in the middle may have
        done it: then only that is repeated which may happen twice, or of which
        `happened`, asked first, says that it did not.

        Args:
            call: of a storage.
            happened: takes the same arguments, and gives what the call would have
                given; None where it did not happen.
        """
        may_repeat = happened is not None or call.__name__.startswith(REPEATABLE)

        @wraps(call)
        def waiting(*args: Any, **more: Any) -> Found:
            tried = False

            def once() -> Found:
                nonlocal tried
                if tried and happened is not None:
                    found = happened(*args, **more)
                    if found is not None:
                        return found
                tried = True
                return call(*args, **more)

            try:
                return self._waited(
                    once, self._works_later if may_repeat else _is_locked
                )
            except StudyError:
                raise
            except FAILURES as error:
                raise self._failed(error) from error

        return waiting

    def _failed(self, error: Exception) -> StudyError:
        if _has(error, (MISSING,)):
            return GoneError(f"a study in storage {self.name!r} was deleted in use")
        return StorageError(
            f"storage {self.name!r} failed ({said(error)}): "
            f"{hint(error) or 'see what is wrong with it'}; then the same "
            "command goes on with what was finished before"
        )

    def _waited(
        self,
        do: Callable[[], Found],
        passes: Callable[[Exception, float], bool],
    ) -> Found:
        """Do something, again as long as what hinders it passes."""
        clock, pause = Clock(), FIRST_PAUSE
        while True:
            try:
                return do()
            except (*FAILURES, AssertionError) as error:
                waited = clock.seconds
                if not passes(error, waited):
                    raise
                if waited + pause > self.seconds:
                    raise self._busy(error, waited) from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _busy(self, error: Exception, waited: float) -> BusyError:
        what, who = "did not work", "see what else uses it"
        if _is_locked(error):
            what = "was locked by another program"
        elif self._is_away(error):
            what, who = "was not there", "put it back where it was"
            if self._has_file():
                who = hint(error) or "see that it is, and can be reached"
        return BusyError(
            f"storage {self.name!r} {what} for {waited:.0f} s ({said(error)}): {who}, "
            "then give the same command again, which goes on with "
            "what was finished before; --storage-timeout lets a search wait longer"
        )

    def _works_later(self, error: Exception, waited: float) -> bool:
        """Whether something that may happen twice is worth doing again."""
        return _is_locked(error, waited) or self._is_away(error)

    def _is_away(self, error: Exception) -> bool:
        """Whether a server or a file is not there, which may come back."""
        return _has(error, AWAY) or not self._has_file()

    def _has_file(self) -> bool:
        try:
            return self.file is None or self.file.exists()
        except OSError:
            # of a file system that went
            return False


def said(error: BaseException) -> str:
    """The driver's own words: SQLAlchemy and Optuna wrap them, SQL and all."""
    while error.__cause__ is not None:
        error = error.__cause__
    of_system = error.strerror if isinstance(error, OSError) else None
    return of_system or first_line(error) or type(error).__name__


def hint(error: BaseException) -> str:
    """What to do about a failure, where we know."""
    words = said(error).lower()
    return next((HINTS[part] for part in HINTS if part in words), "")


def _has(error: BaseException, parts: tuple[str, ...]) -> bool:
    words = said(error).lower()
    return any(part in words for part in parts)


def _is_locked(error: Exception, waited: float = 0.0) -> bool:
    """Whether another program holds what is wanted."""
    del waited
    return isinstance(error, BlockingIOError) or _has(error, LOCKED)


def _opens_later(error: Exception, waited: float) -> bool:
    """Whether a storage is worth opening again.

    Another process may be making it. A server that is not there is not waited for: its
    URL may be wrong.
    """
    # Alembic finds its table without the row that is about to be written
    made = isinstance(error, AssertionError) or _has(error, BEING_MADE)
    soon = _has(error, COMING)
    return _is_locked(error, waited) or soon or (made and waited < MAKING)
