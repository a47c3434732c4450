"""Several processes on one study, some of which are killed: as one that never was.

On a PostgreSQL server that runs for real. A worker is killed while it works, then the
process that leads; another worker takes its place, and comes to the same.
"""

from __future__ import annotations

import gc
import time
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from allocator.study.board import LEADER, SAID, WORKER, Board
from allocator.study.journal import Journal
from allocator.study.recommendations import recommendation
from tests.end_to_end.command import environment, start
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from allocator.study.board import Record
    from tests.end_to_end.command import Started

pytestmark = [
    pytest.mark.slow,
    # a process keeps its connections for as long as it lives
    pytest.mark.filterwarnings("ignore:.*deleted while still open:ResourceWarning"),
]

WORDS = (
    *("--budget", "4.0", "--task", "vqav2", "--model", "tiny-llava", "--study", "one"),
    *("--trials", "2", "--methods", "gptq", "--no-refine", "--no-tune"),
)
# seconds in which anything happens on a busy machine
PATIENCE = 300.0


def until(happens: Callable[[], Any], *running: Started) -> Any:
    ends = time.monotonic() + PATIENCE
    while not (found := happens()):
        assert time.monotonic() < ends
        assert all(each.process.is_alive() for each in running)
        time.sleep(0.05)
    return found


@cache
def storage_at(url: str) -> RDBStorage:
    return RDBStorage(url)


@cache
def board_at(url: str) -> Board:
    return Board.open(url, "one", 10)


@cache
def study_at(url: str) -> optuna.Study:
    """Opened once: each keeps connections, and a server has a hundred."""
    return optuna.load_study(study_name="one", storage=url)


def measured(url: str) -> list[tuple[str, str, float]]:
    """Digest, kind and score of what was measured, in order."""
    study = study_at(url)
    done = study.get_trials(states=(TrialState.COMPLETE,))
    return [(t.system_attrs["digest"], t.user_attrs["kind"], t.values[0]) for t in done]


def recommended(url: str) -> dict[str, Any]:
    found: dict[str, Any] = recommendation(Journal.load(url, "one"))["found"]
    return {
        **{name: found["recommended"][name] for name in ("digest", "score", "ci95")},
        "full precision": found["full_precision"],
        "uniform": found["uniform"],
    }


@pytest.fixture
def home(tmp_path: Path, drawn_world: Path) -> Iterator[Path]:
    with homes(tmp_path, drawn_world):
        yield tmp_path
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def pid_of(record: Record) -> int:
    return int(record.token.split("|")[2])


def test_whoever_is_killed_the_others_come_to_what_one_alone_does(
    home: Path, postgres_url: str
) -> None:
    alone = f"sqlite:///{home}/alone.db"
    whole = start(environment(home), *WORDS, "--storage", alone).wait()
    assert whole.returncode == 0, whole.stderr

    storage = ("--storage", postgres_url)
    # a home of their own: the bank is made again, by all of them
    surroundings = environment(home / "shared")
    worker = ("worker", "--study", "one", "--wait", f"{PATIENCE:.0f}s", *storage)
    leads = start(surroundings, *WORDS, *storage)
    first, second = start(surroundings, *worker), start(surroundings, *worker)
    board = until(lambda: board_of(postgres_url), leads, first, second)
    workers = {first.process.pid: first, second.process.pid: second}

    def busy() -> list[Record]:
        return [each for each in board.living(WORKER) if each.letter(SAID)]

    # one worker dies at work ...
    dies = until(busy, leads, first, second)[0]
    killed = workers.pop(pid_of(dies))
    assert killed.kill()
    (stays,) = workers.values()
    # ... then, in the search itself, the process that leads
    until(lambda: proposals(postgres_url) >= 1, leads, stays)
    assert leads.kill()
    done = stays.wait()
    assert done.returncode == 0, done.stderr
    assert "it led 1 search to the end" in done.stdout

    found = measured(postgres_url)
    assert len({digest for digest, _, _ in found}) == len(found)
    assert sorted(found) == sorted(measured(alone))
    assert recommended(postgres_url) == recommended(alone)
    assert optuna.get_all_study_names(postgres_url) == ["one"]


def board_of(url: str) -> Board | None:
    """The board, as soon as somebody leads."""
    storage = storage_at(url)
    if "one" not in {each.study_name for each in storage.get_all_studies()}:
        return None
    found = board_at(url)
    return found if found.living(LEADER) else None


def proposals(url: str) -> int:
    return sum(kind == "proposal" for _, kind, _ in measured(url))
