"""Run the command line as a user does, each time in a process and homes of its own.

A process that starts from nothing spends seconds on importing its libraries, most of
what a small command takes. These are forked from one that has imported them and done
nothing else: all that a command learns it still has to find on the disk.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

SERVER = get_context("forkserver")
# one server for all tests: whoever sets this last is heard
SERVER.set_forkserver_preload(["tests.end_to_end.libraries", "tests.soak"])


@dataclass
class Started:
    """A command that runs, and the files that its output goes to."""

    words: tuple[str, ...]
    process: ForkServerProcess
    folder: TemporaryDirectory[str]

    def wait(self) -> CompletedProcess[str]:
        """What it ended with."""
        self.process.join()
        code = self.process.exitcode
        assert code is not None
        said = [(Path(self.folder.name) / name).read_text() for name in ("out", "err")]
        self.process.close()
        self.folder.cleanup()
        return CompletedProcess(self.words, code, *said)

    def first_line(self) -> str:
        """The first that it says to people, as soon as it says it."""
        file = Path(self.folder.name) / "err"
        while not file.exists() or "\n" not in (said := file.read_text()):
            assert self.process.is_alive(), "it ended without a word"
            time.sleep(0.01)
        return said.partition("\n")[0]

    def kill(self) -> bool:
        """Kill it; says whether there was something to kill."""
        alive = self.process.is_alive()
        self.process.kill()
        self.wait()
        return alive


def start(surroundings: dict[str, str], *words: str) -> Started:
    """Start the command line in an environment."""
    folder = TemporaryDirectory(prefix="command-")
    process = SERVER.Process(target=_main, args=(words, surroundings, folder.name))
    # the one that the others are forked from reads some of it as it imports
    with mock.patch.dict(os.environ, surroundings):
        process.start()
    return Started(words, process, folder)


def _main(words: tuple[str, ...], surroundings: dict[str, str], folder: str) -> None:
    """Be the command line: in this environment, with these files for output."""
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        with (Path(folder) / name).open("wb") as file:
            os.dup2(file.fileno(), stream.fileno())
    # who runs tests in the background may have it ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(surroundings)
    sys.argv = ["allocate", *words]
    from allocator.cli import main

    main()


def run(home: Path, *words: str) -> CompletedProcess[str]:
    """Run the command line in homes of its own."""
    return start(environment(home), *words).wait()


def allocate(home: Path, *words: str) -> Any:
    """Run the command line and read its JSON."""
    done = run(home, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def environment(home: Path) -> dict[str, str]:
    homes = {"XDG_DATA_HOME": str(home / "data"), "XDG_CACHE_HOME": str(home / "cache")}
    return {**os.environ, **homes, "HF_HUB_OFFLINE": "1"}
