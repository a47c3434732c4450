from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState, create_trial
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from allocator.core.errors import StudyError
from allocator.study.once import WRITTEN, patient_storage, raw_of
from allocator.study.patience import Patience
from allocator.study.storage import _opened, file_of, open_storage
from tests.study.outages import closed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine

    from tests.databases import Server

__all__ = ["closed"]

pytestmark = pytest.mark.usefixtures("closed")

GONE = "server closed the connection unexpectedly"


def lost() -> OperationalError:
    return OperationalError("COMMIT", {}, Exception(GONE))


@pytest.fixture(params=["sqlite:///{}/x.db", "{}/x.log", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return str(request.param).format(tmp_path)


def bare(url: str) -> BaseStorage:
    """A storage that waits for nothing."""
    return _opened(url, file_of(url))


def study_in(storage: BaseStorage) -> optuna.Study:
    return optuna.create_study(
        storage=storage, study_name="x", load_if_exists=True, direction="maximize"
    )


def begun(about: str) -> FrozenTrial:
    return create_trial(state=TrialState.RUNNING, system_attrs={"digest": about})


class Cut:
    """A call whose answers are lost: done every time, and heard of the last one."""

    def __init__(self, call: Callable[..., Any], count: int) -> None:
        self.call, self.count, self.__name__ = call, count, call.__name__

    def __call__(self, *given: Any, **more: Any) -> Any:
        found = self.call(*given, **more)
        self.count -= 1
        if self.count >= 0:
            raise lost()
        return found


def test_a_write_that_was_done_when_the_connection_was_lost_is_not_done_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = bare(url)
    for name in ("create_new_trial", "set_trial_state_values"):
        monkeypatch.setattr(raw, name, Cut(getattr(raw, name), 1), raising=False)
    study = study_in(patient_storage(raw, Patience("it", 20.0)))
    for place in range(2):
        study.add_trial(begun(f"{place}"))
        study.tell(place, float(place))
    study.add_trial(create_trial(value=2.0))
    found = study.get_trials()
    assert [trial.value for trial in found] == [0.0, 1.0, 2.0]
    assert {trial.state.name for trial in found} == {"COMPLETE"}
    # each is known by a token of its own
    assert len({trial.system_attrs[WRITTEN] for trial in found}) == 3


@pytest.mark.parametrize("url", ["sqlite:///{}/x.db", "postgres"], indirect=True)
def test_optuna_does_not_add_a_trial_anew_whose_commit_was_not_heard_of(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_in(open_storage(url, timeout=20.0))
    commit, left = Session.commit, [1, 1]

    def committed(session: Session) -> None:
        commit(session)
        if left:
            left.pop()
            raise lost()

    monkeypatch.setattr(Session, "commit", committed)
    study.add_trial(begun("a"))
    assert left == []
    assert [trial.system_attrs["digest"] for trial in study.get_trials()] == ["a"]


def test_what_was_not_done_is_done_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = bare(url)
    failing = [lost(), lost()]
    add, tell = raw.create_new_trial, raw.set_trial_state_values

    def fails(call: Callable[..., Any]) -> Callable[..., Any]:
        def create(*given: Any, **more: Any) -> Any:
            if failing:
                raise failing.pop()
            return call(*given, **more)

        create.__name__ = call.__name__
        return create

    monkeypatch.setattr(raw, "create_new_trial", fails(add), raising=False)
    monkeypatch.setattr(raw, "set_trial_state_values", fails(tell), raising=False)
    study = study_in(patient_storage(raw, Patience("it", 20.0)))
    study.add_trial(begun("a"))
    failing.append(lost())
    study.tell(0, 1.0)
    assert [trial.value for trial in study.get_trials()] == [1.0]


def test_a_trial_that_cannot_be_found_again_is_not_begun_twice(url: str) -> None:
    raw = bare(url)
    cut = Cut(raw.create_new_trial, 1)
    raw.create_new_trial = cut  # type: ignore[method-assign]
    study = study_in(patient_storage(raw, Patience("it", 20.0)))
    # Optuna's own way to begin one says nothing by which it is known
    with pytest.raises(StudyError, match="failed"):
        study.ask()
    assert len(study.get_trials()) == 1


def test_a_server_that_stops_and_starts_again_is_waited_for(postgres: Server) -> None:
    study = study_in(open_storage(postgres.new_url(), timeout=60.0))

    def again() -> None:
        time.sleep(1.5)
        postgres.start()

    for crash in (False, True):
        for step in range(2):
            postgres.stop(crash=crash)
            thread = threading.Thread(target=again)
            thread.start()
            if step:
                study.tell(study.get_trials()[-1].number, 1.0)
            else:
                study.add_trial(begun("a"))
            thread.join()
    assert [trial.value for trial in study.get_trials()] == [1.0, 1.0]


class Cutting:
    """Cuts all connections to a server before the statement of a number."""

    def __init__(self, engine: Engine, server: Server) -> None:
        self.left, self.server = 0, server
        sqlalchemy.event.listen(engine, "before_cursor_execute", self)

    def __call__(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname LIKE 'test%'"
            )


@pytest.mark.slow
def test_a_connection_that_is_cut_at_any_statement_loses_and_doubles_nothing(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Optuna's own pause between two tries
    monkeypatch.setattr("optuna.storages._rdb.storage.random.random", lambda: 0.0)
    storage: Any = open_storage(postgres.new_url(), timeout=60.0)
    study = study_in(storage)
    cutting = Cutting(raw_of(storage)._backend.engine, postgres)  # type: ignore[attr-defined]
    done = 0
    while cutting.left <= 0:
        cutting.left = done + 1
        study.add_trial(begun(f"{done}"))
        study.tell(study.get_trials()[-1].number, float(done))
        done += 1
        cuts = [trial.value for trial in study.get_trials()]
        assert cuts == list(range(done))
    # each statement of a trial was once the one that failed
    assert done > 15
