"""Many damaged inputs for every reader, each reader in a process within bounds.

    OMP_NUM_THREADS=1 python -m tests.fuzz.run 20000 > studies/results/fuzz.log

Prints a line for each reader: how many inputs were read, how many refused, how long the
longest took, and the most memory that the process had, libraries included. Names of
readers behind the count choose among them.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.fuzz import readers, readers_data, readers_study, readers_weights
from tests.fuzz.outcomes import LONGEST, FuzzError, outcomes

READERS = {
    each.name: each
    for room in (readers, readers_data, readers_study, readers_weights)
    for each in room.READERS
}
# bytes of a process's own memory: what it maps of libraries does not count
MOST = 2 * 2**30
# opened through Optuna, a database takes a tenth of a second: a share of the inputs
SHARE = {"databases": 10}
# bytes of what a process says at most: as many as a pipe holds
LONGEST_TOLD = 4096
# where files are made fastest
SHM = Path("/dev/shm")


def folder_for(where: str | None = None) -> Any:
    """A folder that goes away, in memory where there is such a thing."""
    return tempfile.TemporaryDirectory(dir=where or (SHM if SHM.is_dir() else None))


def one(name: str, count: int) -> str:
    """Let one reader read so many inputs, in this process; says what came of them.

    Raises:
        FuzzError: an input made something else of it than a value or a sentence.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (MOST, MOST))

    def too_long(*_: Any) -> None:
        raise FuzzError(f"{name}: an input takes more than {LONGEST:g} s")

    signal.signal(signal.SIGALRM, too_long)
    with folder_for() as folder:
        told = outcomes(READERS[name], Path(folder), count, alarm=True).told
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"{name}: {told}, {peak:,.0f} MiB"


def in_process(name: str, count: int) -> str:
    """The same in a process of its own, which has what this one has imported.

    Raises:
        FuzzError: it failed, or was killed; says why.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        told, code = "", 1
        try:
            told, code = one(name, count), 0
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(write, told.encode(errors="replace")[:LONGEST_TOLD])
        os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as opened:
        told = opened.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    if status:
        raise FuzzError(told or f"{name}: ended by signal {os.WTERMSIG(status)}")
    return told


def main(words: list[str]) -> int:
    """Run; 1 where anything failed."""
    count, names = int(words[0]), words[1:]
    failed = False
    for name in names or READERS:
        try:
            print(in_process(name, count // SHARE.get(name, 1)), flush=True)
        except FuzzError as error:
            failed = True
            print(f"{name}: FAILED: {error}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
