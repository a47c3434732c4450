"""Who is at work on a trial, and how others can tell that it no longer is.

An owner renews the lease of its trial, a time stamp among the trial's attributes, for
as long as it is at work. Whoever sees no renewal for a minute of its own clock, which
only rises, takes the owner for dead, wherever that ran: in a container every process
has a host and a number that others have had before. What clocks say of the day may
differ by hours. On one host, under one kernel and in one namespace of processes, a dead
one is known at once, and a living one whatever its lease says.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from secrets import token_hex
from typing import TYPE_CHECKING

from optuna.exceptions import UpdateFinishedTrialError

from allocator.core.text import is_count
from allocator.study.storage import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

OWNER, LEASE = "owner", "lease"
# seconds between two renewals, and without one before an owner counts as dead
RENEWED, EXPIRES = 15.0, 60.0
# Clocks disagree, by hours where one was set wrong: only a stamp that is older than any
# such fault, in seconds, has expired for whoever sees it first.
SKEW = 36 * 3600.0
BOOT, NAMESPACE = "/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"
STATUS = "/proc/{}/stat"
ENDED = (b"Z", b"X", b"x")
# of a process that runs: when it started, where no kernel tells
UNKNOWN = "unknown"

# owners of trials that this process is measuring
_at_work: set[str] = set()


@dataclass(frozen=True)
class Owner:
    """Who works on one trial: a process, where its number counts, when it began."""

    host: str
    place: str
    pid: int
    began: str
    token: str

    def __str__(self) -> str:
        return "|".join((self.host, self.place, str(self.pid), self.began, self.token))

    @staticmethod
    def read(text: str) -> Owner:
        """An owner as a trial keeps it; those of before had host and number alone."""
        parts = text.split("|")
        if len(parts) == 5 and is_count(parts[2]):
            return Owner(parts[0], parts[1], int(parts[2]), parts[3], parts[4])
        host, _, pid = text.rpartition(":")
        return Owner(host, "", int(pid) if is_count(pid) else 0, "", "")

    @property
    def sentence(self) -> str:
        """For people."""
        return f"process {self.pid} on {self.host or 'an unknown host'}"

    @property
    def is_here(self) -> bool:
        """Whether its number is one of a process that can be seen from here."""
        return (self.host, self.place) == (socket.gethostname(), place())

    @property
    def runs(self) -> bool:
        """Whether the process, seen from here, still runs."""
        if (self.pid, self.began) == (os.getpid(), began(os.getpid())):
            return str(self) in _at_work
        now = began(self.pid)
        return bool(now) and (now == self.began or UNKNOWN in (now, self.began))


def new_owner() -> Owner:
    """This process as the owner of a trial that it begins."""
    pid = os.getpid()
    return Owner(socket.gethostname(), place(), pid, began(pid), token_hex(4))


def place() -> str:
    """The running kernel, and the namespace that numbers of processes are of."""
    try:
        with open(BOOT, encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink(NAMESPACE)}"
    except OSError:
        # no Linux, and no namespaces
        return "here"


def began(pid: int) -> str:
    """When a process started, by its kernel's clock; "" where none runs."""
    try:
        with open(STATUS.format(pid), "rb") as file:
            # the name before it may hold anything, brackets too
            about = file.read().rpartition(b")")[2].split()
        # one that was killed is seen until who started it has asked for its end
        return "" if about[0] in ENDED else about[19].decode()
    except (IndexError, OSError):
        return UNKNOWN if _runs(pid) else ""


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


@dataclass
class Leases:
    """What is known of the owners of running trials: more with every look.

    `clock` gives seconds that only rise, `today` seconds since 1970.
    """

    clock: Callable[[], float] = time.monotonic
    today: Callable[[], float] = time.time
    # by trial: its stamp, for how long that was seen, and when last
    _seen: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    _renewed: set[int] = field(default_factory=set)

    def is_dead(self, trial: FrozenTrial) -> bool:
        """Whether nobody works on a running trial any more, as far as can be seen."""
        owner, waited = owner_of(trial), self._waited(trial)
        if owner.is_here:
            return not owner.runs
        aged = self.today() - self._seen[trial.number][0] > SKEW
        return waited > EXPIRES or (aged and trial.number not in self._renewed)

    def is_alive(self, trial: FrozenTrial) -> bool:
        """Whether somebody was seen at work on a running trial."""
        owner = owner_of(trial)
        return owner.runs if owner.is_here else trial.number in self._renewed

    def left(self, trial: FrozenTrial) -> float:
        """Seconds until a trial's owner is known to be dead, unless it is alive."""
        return max(0.0, EXPIRES - self._waited(trial))

    def _waited(self, trial: FrozenTrial) -> float:
        """Seconds, of our own clock, in which a lease was not renewed.

        Between two looks further apart than a lease is long, the storage may have been
        away, for its owner too: then two renewals may still come.
        """
        now, stamp = self.clock(), _stamp(trial)
        before, waited, last = self._seen.get(trial.number, (stamp, 0.0, now))
        if before != stamp:
            self._renewed.add(trial.number)
            waited, last = 0.0, now
        gap = now - last
        waited += gap if gap <= EXPIRES else EXPIRES - 2 * RENEWED
        self._seen[trial.number] = stamp, waited, now
        return waited


def owner_of(trial: FrozenTrial) -> Owner:
    """The owner of a trial."""
    about = {**trial.user_attrs, **trial.system_attrs}
    return Owner.read(str(about.get(OWNER, "")))


def _stamp(trial: FrozenTrial) -> float:
    """When a lease was renewed last, by its owner's clock."""
    started = trial.datetime_start
    since = started.timestamp() if started else 0.0
    return float(trial.system_attrs.get(LEASE, since))


@contextmanager
def renewed(url: str, trial_id: int, owner: str) -> Iterator[None]:
    """Renew the lease of a trial for as long as it is measured.

    In a thread with a connection of its own, which opens when it is first needed: most
    trials are shorter. What hinders it is tried again, and ends no measurement.
    """
    done = threading.Event()
    thread = threading.Thread(target=_renew, args=(url, trial_id, done), daemon=True)
    _at_work.add(owner)
    thread.start()
    try:
        yield
    finally:
        done.set()
        _at_work.discard(owner)


def _renew(url: str, trial_id: int, done: threading.Event) -> None:
    storage: BaseStorage | None = None
    while not done.wait(RENEWED):
        try:
            storage = storage or open_storage(url, create=False, timeout=RENEWED)
            storage.set_trial_system_attr(trial_id, LEASE, time.time())
        except UpdateFinishedTrialError:
            # somebody else gave it up, or it was finished meanwhile
            return
        except Exception:  # nosec B112: it is tried again
            # drivers raise whatever they like
            continue
