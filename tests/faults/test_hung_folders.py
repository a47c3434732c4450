"""Files that never answer: somebody is told, and can end it.

A named pipe that nobody writes into blocks whoever opens it, as a network that is gone
does; these stand for such, and are refused where they are asked for by name.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from click.testing import CliRunner

from allocator.bench.ahead import made_ahead
from allocator.bench.contents import Contents
from allocator.cli import main
from allocator.core import waiting
from allocator.core.errors import DataError, NotReachedError
from allocator.core.waiting import answered, check_answers, heeding
from allocator.families import read_image
from tests.end_to_end.command import environment


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """Opening it to read waits for ever."""
    os.mkfifo(tmp_path / "pipe.jpg")
    return tmp_path / "pipe.jpg"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.05)
    monkeypatch.setattr(waiting, "LOOK", 0.02)


class OverError(Exception):
    """Enough was waited."""


def until(said: list[str], count: int) -> Any:
    """Ends a wait once so much was said."""

    def check() -> None:
        if len(said) >= count:
            raise OverError

    return check


def test_who_waits_for_a_file_is_told_which_and_can_end_it(pipe: Path) -> None:
    said: list[str] = []
    with heeding(said.append, until(said, 1)), pytest.raises(OverError):
        read_image(pipe)
    assert said == [
        f"waiting for {pipe}, which has not answered for 0 s: its disk or network may "
        "be gone (Ctrl-C ends; all that is finished is kept)"
    ]


def test_it_is_told_once_for_each_file() -> None:
    said: list[str] = []

    def slow(place: waiting.Place) -> str:
        for name in "ab":
            place.at(Path(name))
            time.sleep(0.3)
        return "read"

    with heeding(said.append):
        assert answered(Path("a"), slow) == "read"
    assert [sentence.split()[2] for sentence in said] == ["a,", "b,"]


def test_what_is_quick_is_given_or_raised_as_it_is() -> None:
    assert answered(Path("a"), lambda place: place.path.name) == "a"
    with pytest.raises(DataError, match="no"):
        answered(Path("a"), lambda _: (_ for _ in ()).throw(DataError("no")))


def test_a_picture_that_hangs_while_it_is_digested_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, never = tmp_path / "a.jpg", Event()
    file.write_bytes(b"a")
    monkeypatch.setattr("hashlib.file_digest", lambda *_: never.wait())
    started = time.monotonic()

    def over() -> None:
        if time.monotonic() - started > 0.2:
            raise NotReachedError("--time is over")

    with heeding(lambda _: None, over), pytest.raises(NotReachedError):
        Contents().of([file], "pictures")
    never.set()


def test_threads_that_wait_for_a_file_are_left_at_once(pipe: Path) -> None:
    def used() -> None:
        with closing(made_ahead([pipe] * 3, [read_image])):
            time.sleep(0.1)
            raise KeyboardInterrupt

    ended = Event()

    def run() -> None:
        with pytest.raises(KeyboardInterrupt):
            used()
        ended.set()

    Thread(target=run, daemon=True).start()
    assert ended.wait(10)


def test_an_end_of_time_reaches_who_waits_for_a_thread(pipe: Path) -> None:
    said: list[str] = []
    with (
        heeding(said.append, until(said, 1)),
        closing(made_ahead([pipe], [read_image])) as made,
        pytest.raises(OverError),
    ):
        next(made)[1]()
    assert str(pipe) in said[0]


def test_a_search_that_waits_ends_with_its_time(
    pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a whole command, whose data are gone as soon as they are asked for."""

    def hung(*_: Any, **__: Any) -> None:
        answered(pipe, lambda place: place.path.open())

    monkeypatch.setattr("allocator.bench.prepare.prepare", hung)
    words = ["--budget", "4", "--task", "vqav2", "--time", "0.1s"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 3
    assert "allocate: --time 0.1s is over, and a file does not answer" in done.output


@pytest.mark.parametrize("name", ["data", "config.json"])
def test_pipes_and_sockets_are_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path if name == "config.json" else tmp_path / name
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=f"{name} is a named pipe, and no file"):
        check_answers(folder)
    with pytest.raises(DataError, match="is a named pipe"):
        Contents().of([tmp_path / name], "pictures")


def test_so_are_devices_and_sockets_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="/dev/null is a device"):
        check_answers(Path("/dev/null"))
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(tmp_path / "s"))
        with pytest.raises(DataError, match="is a socket"):
            check_answers(tmp_path / "s")
    # what lies beside the data is nobody's business
    for path in (tmp_path, tmp_path / "none", Path(__file__)):
        check_answers(path)


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from allocator.cli import main
from allocator.core.waiting import answered
import allocator.report.doctor as doctor

# who runs tests in the background may have it ignored
signal.signal(signal.SIGINT, signal.default_int_handler)

def hung():
    answered(Path(sys.argv[1]), opened)

def opened(place):
    print("reading", flush=True)
    open(place.path)

doctor.examine = hung
main(["doctor"], prog_name="allocate")
"""


def test_control_c_ends_a_command_that_waits_for_a_file(
    pipe: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(pipe)],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.startswith("allocate: interrupted; everything finished is kept")
    # an interpreter ends in a moment, on a busy machine too
    assert time.monotonic() - started < 20
