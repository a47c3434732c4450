"""The dashboard is started on what is there, or refused in a sentence."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import SpecError, StudyError
from allocator.report import dashboard
from allocator.report.dashboard import serve
from allocator.study.journal import Journal
from allocator.study.recommendations import LATEST
from allocator.study.storage import OVER
from tests.searches import asked_for, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments of the servers that were started."""
    found: list[dict[str, Any]] = []

    def run_server(storage: Any, **options: Any) -> None:
        del storage
        found.append(options)
        raise KeyboardInterrupt

    monkeypatch.setitem(
        sys.modules, "optuna_dashboard", SimpleNamespace(run_server=run_server)
    )
    monkeypatch.setattr(dashboard, "find_spec", lambda _: object())
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def test_the_studies_are_served_until_interrupted(
    url: str, started: list[dict[str, Any]]
) -> None:
    Journal.create(url, "one", "identity", asked_for().to_json())
    port = free_port()
    said: list[str] = []
    serve(url, port, said.append)
    assert started == [{"host": "127.0.0.1", "port": port}]
    assert said == [f"1 studies at http://127.0.0.1:{port} (Ctrl-C ends it)"]


def test_what_cannot_be_served_is_refused(
    url: str, started: list[dict[str, Any]]
) -> None:
    with pytest.raises(StudyError, match="no study in"):
        serve(url, 8080, print)
    Journal.create(url, "one", "identity", asked_for().to_json())
    with pytest.raises(SpecError, match="from 1 to 65535, not 70000"):
        serve(url, 70_000, print)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SpecError, match="choose another --port"):
            serve(url, taken.getsockname()[1], print)
    assert started == []


def test_without_the_package_it_says_how_to_get_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "find_spec", lambda _: None)
    with pytest.raises(SpecError, match=r"pip install 'allocate-vlm\[dashboard\]'"):
        serve(url, 8080, print)


def test_people_are_shown_names_that_tell_and_nothing_else(
    toy: ModelSpec, url: str
) -> None:
    search = search_of(toy, url, asked_for())
    space = search.setup.space
    search.look_at(space.smallest)
    search.measure(space.smallest, "proposal", {"predicted score": 71.0})
    search.measure(space.full, "full")
    search.journal.set_attribute(LATEST, "5/model")
    search.journal.describe("accuracy (%)", {"model": "toy"})
    study = search.journal.study
    assert study.user_attrs == {"model": "toy"}
    assert study.metric_names == ["accuracy (%) on the search set"]
    proposal, full = study.get_trials()
    assert proposal.user_attrs.keys() == {
        *("kind", "bits per weight", "budget in bits per weight", OVER),
        *("divergence on 32 samples", "divergence on 128 samples", "predicted score"),
    }
    # within 5 bits per weight; full precision is not
    (over,) = proposal.constraints.values()
    assert over == proposal.user_attrs[OVER] < 0
    assert over == pytest.approx(space.bpw(space.smallest) - 5)
    assert list(full.constraints.values()) == [pytest.approx(16 - 5)]
    # so the best is one that can be had, although full precision scores more
    assert study.best_trial.number == proposal.number


def test_a_study_that_kept_everything_in_sight_is_still_read(
    toy: ModelSpec, url: str
) -> None:
    search = search_of(toy, url, asked_for())
    space = search.setup.space
    old = Journal.create(url, "old", "identity", {"budget": "5"})
    old.study.set_user_attr("costs", {"a": 1})
    assert Journal.load(url, "old").attribute("costs") == {"a": 1}
    trial = search.journal.begin(space, space.smallest, {"kind": "uniform"})
    search.journal.complete(trial, 70.0)
    assert [r.score for r in search.records] == [70.0]
