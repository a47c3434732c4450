"""Searches that begin to measure when they have hands, and what is left of them.

Without that a small search may be over before anybody has joined it.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock
from uuid import uuid4

import optuna

from tests.end_to_end import command
from tests.end_to_end.command import SERVER, Started, environment

if TYPE_CHECKING:
    from allocator.search.running import Search

MARK = "ALLOCATE_TEST_MARK"
JOINED = re.compile(r"(\d+) on \S+ joined")
# seconds until a test gives up
PATIENCE = 240.0


@dataclass
class Helped(Started):
    """A search that waits for hands, with all processes that it starts."""

    mark: str = ""

    def said(self) -> str:
        """What it has said so far."""
        file = Path(self.folder.name) / "err"
        return file.read_text() if file.exists() else ""

    def hands(self, count: int) -> list[int]:
        """Numbers of the processes that joined, as soon as there are so many."""
        _await(lambda: self.joined(count) or not self.process.is_alive(), self.said)
        found = self.joined(count)
        assert found, self.said()
        return found

    def joined(self, count: int) -> list[int]:
        found = [int(number) for number in JOINED.findall(self.said())]
        return found if len(found) >= count else []

    def left(self) -> list[str]:
        """Processes that it started and that run; itself is one of a test's."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                around = (folder / "environ").read_bytes()
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                is_own = f"{MARK}={self.mark}".encode() in around.split(b"\0")
                if is_own and "multiprocessing." not in words:
                    found.append(f"{folder.name} {words}")
        return found

    def await_all(self) -> None:
        """Wait until nothing that it started runs."""
        _await(lambda: not self.left(), lambda: "\n".join(self.left()))


def search(home: Path, hands: int, *words: str, **around: str) -> Helped:
    """Start a search that measures from when it has so many hands on."""
    mark = uuid4().hex
    surroundings = {**environment(home), MARK: mark, **around}
    folder = TemporaryDirectory(prefix="command-")
    process = SERVER.Process(
        target=_main, args=(words, surroundings, folder.name, hands)
    )
    with mock.patch.dict(os.environ, surroundings):
        process.start()
    return Helped(words, process, folder, mark)


def _main(words: Any, surroundings: Any, folder: str, hands: int) -> None:
    from allocator.search import run

    baselines = run.baselines

    def later(found: Search) -> None:
        while found.crew.size < hands:
            time.sleep(0.05)
        baselines(found)

    with mock.patch.object(run, "baselines", later):
        command._main(words, surroundings, folder)


def _await(done: Any, said: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < until, said()
        time.sleep(0.05)


def trials(home: Path, study: str) -> list[Any]:
    """What was measured, in order: how it ended, of what, what came out."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    url = f"sqlite:///{home}/data/allocate/studies.db"
    found = optuna.load_study(storage=url, study_name=study).get_trials()
    return [
        (t.number, t.state.name, t.system_attrs["digest"], t.values, t.user_attrs)
        for t in found
        if t.system_attrs.setdefault("digest", "")
    ]
