from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from sqlalchemy.exc import OperationalError

from allocator.core.errors import BusyError, GoneError, StudyError
from allocator.core.study import StudySpec
from allocator.search.estimate import estimate
from allocator.study import storage as storage_room
from allocator.study.journal import Journal
from allocator.study.patience import Patience
from allocator.study.storage import open_storage, study_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.fixture
def url(file: Path) -> str:
    return f"sqlite:///{file}"


@contextmanager
def held(file: Path, seconds: float | None = None) -> Iterator[None]:
    """A database that another connection locks, for a while or to the end."""
    other = sqlite3.connect(file, check_same_thread=False)
    other.execute("begin exclusive")
    timer = threading.Timer(seconds or 0, other.rollback)
    if seconds:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if seconds:
            timer.join()
        other.rollback()
        other.close()


def test_a_write_waits_until_the_lock_is_gone_and_is_done_once(
    file: Path, url: str
) -> None:
    journal = Journal.create(url, "first", "identity", {})
    with held(file, 1.5):
        number = journal.study.ask().number
    assert [trial.number for trial in journal.study.trials] == [number]


def test_opening_and_reading_wait_too(file: Path, url: str) -> None:
    Journal.create(url, "first", "identity", {}).set_attribute("a", 1)
    with held(file, 1.5):
        assert Journal.load(url, "first").attribute("a") == 1


def test_a_lock_for_too_long_is_one_sentence_and_nothing_is_lost(
    file: Path, url: str
) -> None:
    Journal.create(url, "first", "identity", {}).set_attribute("a", 1)
    journal = Journal.load(url, "first", 0.1)
    with held(file):
        with pytest.raises(BusyError) as refused:
            journal.set_attribute("a", 2)
        with pytest.raises(BusyError, match="was locked by another program for"):
            study_names(url, 0.1)
        with pytest.raises(BusyError):
            Journal.create(url, "first", "identity", {}, 0.0)
    said = str(refused.value)
    assert f"storage {url!r} was locked by another program for" in said
    assert "--storage-timeout" in said
    assert "\n" not in said
    assert journal.attribute("a") == 1
    journal.set_attribute("a", 3)
    assert journal.attribute("a") == 3


def test_an_estimate_does_not_hide_that_its_storage_is_locked(
    file: Path, url: str
) -> None:
    Journal.create(url, "first", "identity", {})
    asked = StudySpec("4", "vqav2", storage=url, storage_timeout=0.1)
    with held(file), pytest.raises(BusyError):
        estimate(asked)


def emptied(file: Path) -> None:
    file.write_bytes(b"something else" * 1000)


def removed(file: Path) -> None:
    file.unlink()


def moved(file: Path) -> None:
    file.rename(file.with_suffix(".old"))


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (emptied, "failed ("),
        # what is not there may come back
        (removed, "was not there for 0 s ("),
        (moved, "was not there for 0 s ("),
    ],
)
def test_a_database_that_goes_while_it_is_used_is_one_sentence(
    file: Path, url: str, change: Callable[[Path], None], how: str
) -> None:
    Journal.create(url, "first", "identity", {})
    journal = Journal.load(url, "first", 0.1)
    change(file)
    with pytest.raises(StudyError) as refused:
        journal.set_attribute("a", 1)
    assert f"storage {url!r} {how}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_study_that_is_deleted_while_it_is_used_is_one_sentence(url: str) -> None:
    journal = Journal.create(url, "first", "identity", {})
    optuna.delete_study(storage=url, study_name="first")
    with pytest.raises(GoneError) as refused:
        journal.set_attribute("a", 1)
    assert str(refused.value) == f"a study in storage {url!r} was deleted in use"
    # Optuna's own tools ask whether a study is there by this kind of error
    assert isinstance(refused.value, KeyError)


class Failing:
    """A call that fails some times, and counts how often it was tried."""

    def __init__(self, name: str, *failures: Exception) -> None:
        self.__name__ = name
        self.failures = list(failures)
        self.tried = 0

    def __call__(self) -> str:
        self.tried += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def of_driver(words: str) -> OperationalError:
    inner = Exception(words)
    error = OperationalError("INSERT INTO trials", {}, inner)
    error.__cause__ = inner
    return error


GONE = "server closed the connection unexpectedly"


@pytest.mark.parametrize(
    ("name", "words", "tried"),
    [
        ("create_new_trial", "database is locked", 2),
        ("create_new_trial", "deadlock detected", 2),
        ("create_new_trial", "Lock wait timeout exceeded; try restarting", 2),
        ("get_all_trials", GONE, 2),
        ("set_study_system_attr", GONE, 2),
        # it may have been begun already, and would be begun twice
        ("create_new_trial", GONE, 1),
        ("create_new_trial", "database or disk is full", 1),
        ("get_all_trials", "database disk image is malformed", 1),
    ],
)
def test_only_what_did_nothing_or_may_happen_twice_is_done_again(
    name: str, words: str, tried: int
) -> None:
    call = Failing(name, of_driver(words))
    patient = Patience("the storage", 5.0).patient(call)
    if tried == 2:
        assert patient() == "done"
    else:
        with pytest.raises(StudyError, match="storage 'the storage' failed"):
            patient()
    assert call.tried == tried


def test_a_mistake_of_ours_is_not_taken_for_one_of_the_storage() -> None:
    with pytest.raises(TypeError, match="ours"):
        Patience("the storage", 5.0).patient(Failing("get_trial", TypeError("ours")))()


def test_a_password_is_not_printed() -> None:
    with pytest.raises(StudyError) as refused:
        open_storage("nosuchdatabase://me:secret@localhost/studies")
    assert "secret" not in str(refused.value)
    assert "me:***@localhost" in str(refused.value)


MAKES = """
import sys, time
from pathlib import Path
from allocator.study import storage
from allocator.study.journal import Journal
import alembic.command
url, start, locks, identity = sys.argv[1:]
if locks == "without":
    storage._lock = lambda folder: None
Path(f"{start}.{identity}").touch()
while not Path(start).exists():
    time.sleep(0.001)
Journal.create(url, "first", identity, {})
"""


def together(tmp_path: Path, url: str, locks: str, count: int) -> list[Any]:
    """Processes that make one study at the same moment; exit codes and last words."""
    start = tmp_path / "start"
    code = [sys.executable, "-c", MAKES, url, str(start), locks]
    begun = [
        subprocess.Popen([*code, str(i)], stderr=subprocess.PIPE, text=True)
        for i in range(count)
    ]
    while len(list(tmp_path.glob("start.*"))) < count:
        assert all(process.poll() is None for process in begun)
    start.touch()
    words = [process.communicate()[1] for process in begun]
    return list(zip([process.returncode for process in begun], words, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("locks", ["with", "without"])
def test_processes_that_make_one_study_at_once_agree_on_who_was_first(
    tmp_path: Path, url: str, locks: str
) -> None:
    found = together(tmp_path, url, locks, 3)
    # each has an identity of its own: the first one is the study's
    assert sorted(code for code, _ in found) == [0, 1, 1]
    for code, words in found:
        assert code == 0 or "exists and measures another model" in words
    assert study_names(url) == ["first"]


def test_making_a_study_waits_for_another_that_makes_one(
    tmp_path: Path, url: str
) -> None:
    with (
        storage_room.alone(tmp_path / "studies.db"),
        pytest.raises(BusyError, match="locked by another program"),
    ):
        Journal.create(url, "first", "identity", {}, 0.05)
    Journal.create(url, "first", "identity", {}, 0.05)
    # it leaves no file behind
    assert os.listdir(tmp_path) == ["studies.db"]


def test_a_study_of_another_program_is_left_alone(url: str) -> None:
    other = optuna.create_study(storage=url, study_name="first")
    other.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(StudyError, match="'first' exists and was made by another"):
        Journal.create(url, "first", "identity", {})
    assert other._storage.get_study_system_attrs(other._study_id) == {}
