"""Workers on further devices of this machine, which a search starts and ends itself.

They join by the storage as all workers do, so who leads finds them there; should it be
killed, one of them follows it. Here they are only watched: what they say for people
is passed on, one that dies is started again.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from signal import SIGINT, Signals
from subprocess import DEVNULL, Popen, TimeoutExpired
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from allocator.core.clock import Clock
from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.bench.prepare import Setup
    from allocator.core.watch import Heard
    from allocator.search.crew.crew import Hand
    from allocator.study.journal import Journal

# in the environment of a worker: a command line, and a password in it, is seen by all
STORAGE, THREADS = "ALLOCATE_STORAGE", "OMP_NUM_THREADS"
# how often a worker is started again, and seconds until one that is to end is killed
AGAIN, ENDS = 3, 5.0
# how long a worker waits for its study
WAIT = "10m"
# lines that tell how far a worker is, which is how far its leader is
PROGRESS = re.compile(r"[\w ]+: \d+ of \d+ in \d+ s|helping .*")


def read_devices(text: str) -> tuple[str, ...]:
    """Devices of one kind, such as 0,1 or cpu,cpu; none in an empty text.

    Raises:
        SpecError: they are of several kinds, or an accelerator is named twice.
    """
    if not text:
        return ()
    words = [word.strip().lower() for word in text.split(",")]
    found = tuple(f"cuda:{word}" if word.isdigit() else word for word in words)
    kinds = {device.partition(":")[0] for device in found}
    if len(kinds) > 1 or not kinds <= {"cpu", "cuda"}:
        raise SpecError(
            f"devices {text!r} must be of one kind, which all compute alike, such as "
            "0,1 or cuda:0,cuda:1 or cpu,cpu"
        )
    found = tuple("cuda:0" if device == "cuda" else device for device in found)
    for device in found:
        if kinds != {"cpu"} and found.count(device) > 1:
            raise SpecError(f"devices {text!r} name {device} twice")
    return found


@dataclass
class Process:
    """A worker: its process, the file that it writes to, how much of that was read."""

    device: str
    name: str
    process: Popen[bytes]
    output: IO[bytes]
    read: int = 0
    deaths: int = 0

    def lines(self) -> list[str]:
        """What it has written since, in whole lines until it has ended."""
        # with a place of its own: that of the file is the worker's
        new = os.pread(self.output.fileno(), 2**20, self.read)
        if self.process.poll() is None:
            new = new[: new.rfind(b"\n") + 1]
        self.read += len(new)
        return new.decode(errors="replace").splitlines()

    @property
    def end(self) -> str:
        """How it ended, for people."""
        code = self.process.returncode
        return f"by {Signals(-code).name}" if code < 0 else f"with exit code {code}"


@dataclass
class Devices:
    """Workers on devices; they come to a crew by the board, and not from here.

    Attributes:
        words: the command of a worker, which is to be told its device.
        surroundings: variables of its environment.
        watch: is told of them, and what they say unless it was told that.
    """

    words: Sequence[str]
    surroundings: dict[str, str]
    watch: Heard
    _all: list[Process] = field(default_factory=list)
    _closed: bool = False
    # a worker is started, or all are ended
    _moves: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def begun(
        devices: Sequence[str], setup: Setup, journal: Journal, watch: Heard
    ) -> Devices:
        """Start a worker on each device but the first, where this process leads.

        Raises:
            SpecError: this machine lacks one of them.
        """
        from allocator.bench.devices import pick_device, threads, use_threads
        from allocator.study.storage import complete

        for device in devices:
            pick_device(device)
        around = {**os.environ, STORAGE: complete(journal.url)}
        if devices[0].startswith("cpu") and THREADS not in os.environ:
            count = max(1, threads() // len(devices))
            use_threads(count)
            around[THREADS] = str(count)
        words = [sys.executable, "-m", "allocator.cli", "worker", "--wait", WAIT]
        words += ["--study", journal.name]
        words += ["--storage-timeout", f"{setup.asked.storage_timeout:g}s"]
        found = Devices(words, around, watch)
        try:
            for at, device in enumerate(devices[1:], 2):
                found.start(device, f"worker {at} on {device}")
        except BaseException:
            found.close()
            raise
        return found

    def hands(self) -> Sequence[Hand]:
        """None, but workers are looked after."""
        for process in list(self._all):
            for line in process.lines():
                self._pass_on(process, line)
            if process.process.poll() is not None:
                self._again(process)
        return ()

    def start(self, device: str, name: str, deaths: int = 0) -> None:
        """Start a worker, unless all are to end."""
        with self._moves:
            if self._closed:
                return
            # without a name: nobody has to clear it away, and it outlives this process
            output = TemporaryFile()  # noqa: SIM115, closed with its worker
            process = Popen(  # nosec B603: Python itself, with words of ours
                [*self.words, "--device", device],
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=output,
                env=self.surroundings,
                # Ctrl-C is for this process, which ends the others
                process_group=0,
            )
            self._all.append(Process(device, name, process, output, deaths=deaths))

    def close(self) -> None:
        """End all; those that do not end soon, or at a second Ctrl-C, are killed."""
        with self._moves:
            self._closed = True
        clock = Clock()
        try:
            for each in self._all:
                with suppress(ProcessLookupError):
                    each.process.send_signal(SIGINT)
            for each in self._all:
                with suppress(TimeoutExpired):
                    each.process.wait(max(0.0, ENDS - clock.seconds))
        finally:
            for each in self._all:
                each.process.kill()
                each.process.wait()
                each.output.close()

    def _pass_on(self, process: Process, line: str) -> None:
        if line and not PROGRESS.fullmatch(line) and line not in self.watch.said:
            self.watch.said.add(line)
            self.watch.say(f"{process.name}: {line}")

    def _again(self, process: Process) -> None:
        self._all.remove(process)
        process.output.close()
        told = f"{process.name} ended {process.end}"
        if process.deaths < AGAIN:
            self.watch.say(f"{told}: another is started")
            self.start(process.device, process.name, process.deaths + 1)
        else:
            self.watch.say(f"{told}, as {AGAIN} before it: no other is started")
