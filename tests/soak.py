"""Processes that go through a table of measurements together, and are killed at it.

One leads and hands rows to the others, as in a search (`allocator/search/crew`); each
row that it has recorded it reports as well, a line in a file. Whoever finds nobody that
leads takes the lead.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from allocator.core.watch import Silent
from allocator.search.crew.crew import Crew
from allocator.search.crew.mailboxes import Mailboxes
from allocator.search.crew.serving import Worker, leader_of
from allocator.space.table import TableSpace, read_table
from allocator.study.board import DONE, GOAL, LEADER, OPEN, STAGE, Board
from allocator.study.journal import Journal
from tests.end_to_end.command import SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TABLE = Path("studies/published/blip2_coco_uniform.csv")
# processes at once, rows that are handed out at once, seconds between two kills
CREW, AT_ONCE, EVERY = 3, 12, 1.0
STUDY, SCORE, BPW = "soak", "cider", "bpw"
GROUPS = "vit_*,qformer_*,llm_*"


@dataclass(frozen=True)
class Soaked:
    """What came of it: kills, of how many that led; digests recorded and reported."""

    kills: int
    led: int
    recorded: Counter[str]
    reported: Counter[str]
    counted: int
    seconds: float


@dataclass
class Rows:
    """Does pieces: reads the score of a row."""

    space: TableSpace

    def done(self, pieces: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for piece in pieces:
            row = self.space.row(self.space.rows[piece["row"]])
            yield {"score": float(row.score)}


def rows_of(count: int) -> TableSpace:
    """The table, under a budget that at least so many rows keep."""
    table = read_table(TABLE, SCORE, BPW, GROUPS)
    sizes = sorted(row.bpw for row in table.rows)
    return TableSpace(table, sizes[min(count, len(sizes)) - 1])


def work(url: str, count: int, reports: str) -> None:
    """Help until every row is recorded."""
    space = rows_of(count)
    journal = Journal.create(url, STUDY, "a table", {"count": count})
    board = Board.open(url, STUDY, 60)
    while len(journal.records(space)) < count:
        leader = leader_of(board)
        if leader is not None:
            worker = Worker(board, Silent(), lambda _: Rows(space))  # type: ignore
            worker.serve(leader)
        else:
            lead(journal, board, space, count, Path(reports) / str(os.getpid()))


def lead(
    journal: Journal, board: Board, space: TableSpace, count: int, report: Path
) -> None:
    with board.record(LEADER, {GOAL: "table"}) as own:
        if min(each.number for each in board.living(LEADER)) < own.number:
            return
        board.set(own.key, STAGE, OPEN)
        crew = Crew([Mailboxes(board, own.token)])
        crew.open()
        journal.release_stale()
        while left := lacking(journal, space, count):
            pieces = [{"row": at} for at in left[:AT_ONCE]]
            for place, found, _ in crew.done(pieces, Rows(space).done):
                allocation = space.rows[pieces[place]["row"]]
                number = journal.begin(space, allocation, {"kind": "proposal"})
                journal.complete(number, found["score"])
                with report.open("a") as file:
                    file.write(f"{allocation.digest}\n")
        crew.close()
        board.set(own.key, STAGE, DONE)


def lacking(journal: Journal, space: TableSpace, count: int) -> list[int]:
    """Numbers of rows that nobody has recorded."""
    taken = journal.taken(space)
    digests = [each.digest for each in space.rows[:count]]
    return [at for at, digest in enumerate(digests) if digest not in taken]


def soak(url: str, count: int, reports: Path, seed: int = 0) -> Soaked:
    """Have rows measured, and one of the processes killed every second."""
    draw, since = random.Random(seed), time.monotonic()
    reports.mkdir()
    given, kills, led = (url, count, str(reports)), 0, 0
    space = rows_of(count)
    running = [SERVER.Process(target=work, args=given) for _ in range(CREW)]
    for process in running:
        process.start()
    board = None
    while True:
        time.sleep(EVERY)
        if any(process.exitcode == 0 for process in running):
            break
        board = board or _board(url)
        victim = draw.choice(running)
        leads = [e.token.split("|")[2] for e in board.living(LEADER)] if board else []
        led += str(victim.pid) in leads
        victim.kill()
        victim.join()
        kills += 1
        running.remove(victim)
        running.append(SERVER.Process(target=work, args=given))
        running[-1].start()
    for process in running:
        process.join(60)
        assert process.exitcode == 0
    study = optuna.load_study(study_name=STUDY, storage=url)
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    lines = [each.read_text().split() for each in reports.iterdir()]
    return Soaked(
        kills,
        led,
        Counter(trial.system_attrs["digest"] for trial in done),
        Counter(digest for own in lines for digest in own),
        len(Journal.load(url, STUDY).records(space)),
        time.monotonic() - since,
    )


def _board(url: str) -> Board | None:
    try:
        return Board.open(url, STUDY, 10)
    except Exception:
        # nobody has made the storage yet
        return None


def check(found: Soaked, count: int) -> None:
    """Every row is recorded once, and what was reported is."""
    assert set(found.recorded.values()) == {1}
    assert len(found.recorded) == found.counted == count
    assert set(found.reported.values()) == {1}
    assert found.reported.keys() <= found.recorded.keys()
    # a process may die between the two
    assert len(found.recorded) - len(found.reported) <= found.led
