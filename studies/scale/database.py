"""What a PostgreSQL server does of a crew's operations, through Optuna's storage.

    python studies/scale/database.py --out studies/results/scale_database

A server of its own is made in a temporary folder (`initdb`, as the user postgres where
the script runs as root) and removed. Mailboxes are RUNNING trials of a study. Clients,
1, 8 and 32 processes and as many threads of one process, each read their own mailbox
(`get_trial`) or write an attribute of it (`set_trial_system_attr`) as fast as they can;
then one client reads the mailboxes of 8 to 512 workers, all at once and one by one.
Processor time of the server and of the clients is counted beside, since they share a
machine here: a server that has one to itself is as fast as its own time says.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.storages import get_storage
from optuna.trial import TrialState, create_trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CLIENTS = (1, 8, 32)
MAILBOXES = (8, 32, 128, 512)
SECONDS = 6.0
# of a piece as it is told: what to do, some tens of names, a lease
PIECE = {"piece": "look", "samples": 32, "names": [f"{n:016x}" for n in range(32)]}
TICK = os.sysconf("SC_CLK_TCK")


def binaries() -> Path:
    """The folder of the newest server there is."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise SystemExit("there is no PostgreSQL in /usr/lib/postgresql")
    return found[-1]


@contextmanager
def server() -> Iterator[tuple[str, int]]:
    """A server of its own: its URL, and the number of its first process."""
    folder = Path(tempfile.mkdtemp(prefix="scale-database-"))
    own = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if own:
        shutil.chown(folder, "postgres")
    data, control = folder / "data", binaries() / "pg_ctl"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = [binaries() / "initdb", "-D", data, "-A", "trust", "-U", "postgres"]
    options = (
        f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c max_connections=300"
    )
    begin = [control, "-D", data, "-o", options, "-w", "-l", folder / "log", "start"]
    try:
        for command in (made, begin):
            subprocess.run([*own, *command], check=True, cwd="/", capture_output=True)
        first = int((data / "postmaster.pid").read_text().split()[0])
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres", first
    finally:
        end = [*own, control, "-D", data, "-m", "immediate", "stop"]
        subprocess.run(end, check=False, cwd="/", capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def mailboxes(url: str, count: int) -> tuple[int, list[int]]:
    """A study with so many mailboxes: its number, and theirs."""
    storage = get_storage(url)
    study = storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE])
    blank = create_trial(state=TrialState.RUNNING)
    found = [storage.create_new_trial(study, blank) for _ in range(count)]
    for each in found:
        storage.set_trial_system_attr(each, "task", {**PIECE, "lease": 0.0})
        storage.set_trial_system_attr(each, "reply", {**PIECE, "lease": 0.0})
    return study, found


def operation(kind: str, storage: Any, box: int) -> Callable[[], object]:
    """What a client does again and again."""
    if kind == "read":
        return lambda: storage.get_trial(box)
    return lambda: storage.set_trial_system_attr(
        box, "reply", {**PIECE, "lease": time.time()}
    )


def client(kind: str, url: str, box: int, start: Any, out: Any) -> None:
    """One process: seconds of each operation, and its processor time."""
    storage = get_storage(url)
    act = operation(kind, storage, box)
    act()
    start.wait()
    own = time.process_time()
    out.put((repeated(act, SECONDS), time.process_time() - own))


def server_seconds(first: int) -> float:
    """Processor time of a server's processes so far, those that ended among them."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == first:
            total += int(fields[11]) + int(fields[12])
        elif stat.parent.name == str(first):
            total += sum(int(each) for each in fields[11:15])
    return total / TICK


def by_processes(kind: str, url: str, meter: Meter, boxes: list[int]) -> dict[str, Any]:
    """So many processes at a time."""
    context = multiprocessing.get_context("spawn")
    start, out = context.Barrier(len(boxes) + 1), context.Queue()
    made = [
        context.Process(target=client, args=(kind, url, box, start, out))
        for box in boxes
    ]
    for each in made:
        each.start()
    start.wait()
    meter.begin()
    rows = [out.get() for _ in made]
    told = meter.told(
        [taken for found, _ in rows for taken in found], sum(own for _, own in rows)
    )
    for each in made:
        each.join()
    return {"operation": kind, "clients": f"{len(boxes)} processes", **told}


def by_threads(kind: str, url: str, meter: Meter, boxes: list[int]) -> dict[str, Any]:
    """So many threads of this process, with one storage."""
    storage = get_storage(url)
    found: list[list[float]] = [[] for _ in boxes]

    def run(at: int) -> None:
        found[at] += repeated(operation(kind, storage, boxes[at]), SECONDS)

    made = [threading.Thread(target=run, args=(at,)) for at in range(len(boxes))]
    meter.begin()
    for each in made:
        each.start()
    for each in made:
        each.join()
    told = meter.told([taken for own in found for taken in own])
    return {"operation": kind, "clients": f"{len(boxes)} threads", **told}


def repeated(act: Callable[[], object], seconds: float) -> list[float]:
    """Do it for so long, once at least; seconds of each."""
    since, found = time.perf_counter(), list[float]()
    while not found or time.perf_counter() - since < seconds:
        now = time.perf_counter()
        act()
        found.append(time.perf_counter() - now)
    return found


class Meter:
    """Counts what happens from `begin` on; `first` is a server's first process."""

    def __init__(self, first: int) -> None:
        self.first = first

    def begin(self) -> None:
        """From here on."""
        self.served, self.own = server_seconds(self.first), time.process_time()
        self.since = time.perf_counter()

    def told(
        self, seconds: Sequence[float], clients: float | None = None
    ) -> dict[str, Any]:
        """Operations a second, their milliseconds, processor time of each.

        Args:
            seconds: of each operation.
            clients: processor time of the clients; None: this process is all of them.
        """
        taken, done = time.perf_counter() - self.since, len(seconds)
        used = server_seconds(self.first) - self.served
        own = time.process_time() - self.own if clients is None else clients
        return {
            "a second": round(done / taken, 1),
            "median ms": round(1e3 * float(np.median(seconds)), 2),
            "p95 ms": round(1e3 * float(np.quantile(seconds, 0.95)), 2),
            "server ms": round(1e3 * used / done, 3),
            "client ms": round(1e3 * own / done, 3),
        }


def all_boxes(url: str, meter: Meter) -> Iterator[dict[str, Any]]:
    """What a leader takes to read the mailboxes of so many workers."""
    for count in MAILBOXES:
        study, boxes = mailboxes(url, count)
        storage = get_storage(url)
        ways: dict[str, Callable[[], object]] = {
            "at once": partial(
                storage.get_all_trials, study, False, (TrialState.RUNNING,)
            ),
            "one by one": partial(
                lambda s, own: [s.get_trial(b) for b in own], storage, boxes
            ),
        }
        for name, act in ways.items():
            act()
            meter.begin()
            told = meter.told(repeated(act, SECONDS))
            yield {
                "operation": f"read of {count}, {name}",
                "clients": "1 thread",
                **told,
            }


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
    lines += [f"| {' | '.join(str(each) for each in row.values())} |" for row in rows]
    return "\n".join(lines) + "\n"


def crowds(url: str, meter: Meter, boxes: list[int]) -> Iterator[dict[str, Any]]:
    """Each operation by 1, 8 and 32 clients."""
    for kind, count in product(("read", "write"), CLIENTS):
        yield by_processes(kind, url, meter, boxes[:count])
        if count > 1:
            yield by_threads(kind, url, meter, boxes[:count])


def main() -> None:
    """Measure, keep and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows: list[dict[str, Any]] = []
    with server() as (url, first):
        _, boxes = mailboxes(url, max(CLIENTS))
        for row in chain(
            crowds(url, Meter(first), boxes), all_boxes(url, Meter(first))
        ):
            rows.append(row)
            print(row, flush=True)
    asked.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    asked.out.with_suffix(".md").write_text(markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    main()
