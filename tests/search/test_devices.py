"""Workers on further devices: how they are named, started again, heard and ended."""

from __future__ import annotations

import os
import sys
import time
from signal import SIGKILL
from subprocess import Popen
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import SpecError
from allocator.core.watch import Heard
from allocator.search.crew import devices
from allocator.search.crew.devices import AGAIN, STORAGE, Devices, read_devices
from allocator.study.owners import began
from tests.searches import Told, asked_for

if TYPE_CHECKING:
    from collections.abc import Callable

SLEEPS = "import time; time.sleep(60)"
# deaf to Ctrl-C
DEAF = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    f"print('deaf', file=sys.stderr, flush=True); {SLEEPS}"
)


def started(program: str, told: Told | None = None) -> Devices:
    """One worker that is a program of a test."""
    words = (sys.executable, "-c", f"{program}\n#")
    found = Devices(words, dict(os.environ), Heard(told or Told()))
    found.start("cpu", "worker 2 on cpu")
    return found


def wait(done: Callable[[], Any]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.02)


def wait_for_words(found: Devices) -> None:
    (worker,) = found._all
    wait(lambda: os.fstat(worker.output.fileno()).st_size)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0,1", ("cuda:0", "cuda:1")),
        ("cuda:2, cuda", ("cuda:2", "cuda:0")),
        ("cpu,CPU", ("cpu", "cpu")),
        ("3", ("cuda:3",)),
        ("", ()),
    ],
)
def test_devices_are_named_by_number_or_in_full(
    text: str, found: tuple[str, ...]
) -> None:
    assert read_devices(text) == found


@pytest.mark.parametrize("text", ["cpu,0", "auto,auto", "tpu:0", "0,,1", ","])
def test_devices_that_do_not_compute_alike_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="must be of one kind"):
        read_devices(text)


def test_an_accelerator_is_named_once() -> None:
    with pytest.raises(SpecError, match="name cuda:0 twice"):
        read_devices("0,1,cuda")


def test_a_worker_that_dies_is_started_again_a_few_times() -> None:
    told = Told()
    found = started("raise SystemExit(3)", told)
    wait(lambda: found.hands() or not found._all)
    again = "worker 2 on cpu ended with exit code 3: another is started"
    last = f"worker 2 on cpu ended with exit code 3, as {AGAIN} before it: no other"
    assert told.said == [again] * AGAIN + [f"{last} is started"]


def test_what_a_worker_says_is_passed_on_unless_it_was_said() -> None:
    lines = [
        "helping process 7 on here with study 's'",
        "bank: 3 of 12 in 5 s",
        "calibrating on 3 samples",
        "allocate: the disk is full",
    ]
    told = Told()
    program = f"import sys; sys.stderr.write({chr(10).join(lines)!r}); {SLEEPS}"
    found = started(program, told)
    found.watch.say("calibrating on 3 samples")
    (worker,) = found._all
    wait_for_words(found)
    found.hands()
    # a line that has no end yet may go on
    assert told.said == ["calibrating on 3 samples"]
    os.kill(worker.process.pid, SIGKILL)
    worker.process.wait()
    found.hands()
    assert told.said[1:] == [
        "worker 2 on cpu: allocate: the disk is full",
        "worker 2 on cpu ended by SIGKILL: another is started",
    ]
    found.close()


@pytest.mark.parametrize("program", [SLEEPS, DEAF])
def test_no_worker_outlives_the_search_that_started_it(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "ENDS", 0.5)
    found = started(program)
    found.close()
    assert found._all[0].process.returncode is not None
    # who looks after them may be a moment behind
    found.start("cpu", "worker 3 on cpu")
    assert len(found._all) == 1


def test_an_interruption_of_the_end_kills_all(monkeypatch: pytest.MonkeyPatch) -> None:
    found = started(DEAF)
    wait_for_words(found)
    own = found._all[0].process
    wait_for = own.wait

    def interrupted(timeout: float | None = None) -> int:
        if timeout is not None:
            raise KeyboardInterrupt
        return wait_for()

    monkeypatch.setattr(own, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        found.close()
    assert own.returncode == -SIGKILL


def test_a_password_stands_in_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str, str]] = []
    monkeypatch.setattr(Devices, "start", lambda _, *which: begun.append(which))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    url = "postgresql://me:hunter22@host/studies"
    journal: Any = SimpleNamespace(url=url, name="s")
    setup: Any = SimpleNamespace(asked=asked_for(storage=url))
    found = Devices.begun(("cpu", "cpu", "cpu"), setup, journal, Heard(Told()))
    assert begun == [("cpu", "worker 2 on cpu"), ("cpu", "worker 3 on cpu")]
    assert not any("hunter22" in word for word in found.words)
    assert found.surroundings[STORAGE] == url


def test_a_device_that_is_not_here_is_refused() -> None:
    journal: Any = SimpleNamespace(url="sqlite:///s.db", name="s")
    setup: Any = SimpleNamespace(asked=asked_for())
    with pytest.raises(SpecError, match="'cuda:99' is not here"):
        Devices.begun(("cpu", "cuda:99"), setup, journal, Heard(Told()))


def test_a_killed_process_that_nobody_asked_after_is_dead() -> None:
    with Popen((sys.executable, "-c", SLEEPS)) as process:
        assert began(process.pid)
        os.kill(process.pid, SIGKILL)
        wait(lambda: not began(process.pid))
