"""A study opened from Python, while its search runs and after it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import SpecError, StudyError
from allocator.report.study import Study
from allocator.search import run as searching
from allocator.search.propose import propose
from allocator.search.run import baselines, conclude
from allocator.study.recommendations import keep_recommendation
from tests.searches import asked_for, fake_weights, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.records import Recommendation
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search


@pytest.fixture
def search(toy: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """A search whose baselines and proposals are measured."""
    fake_weights(monkeypatch)
    monkeypatch.setattr(searching, "strata", lambda *_: ())
    begun = search_of(toy, f"{tmp_path}/studies.log", asked_for(trials=6))
    baselines(begun)
    propose(begun)
    return begun


@pytest.fixture
def found(search: Search) -> Recommendation:
    """What it comes to, kept with its study."""
    outcome = conclude(search)
    keep_recommendation(search.journal, search.goal.name, outcome, {"of": "the plan"})
    return outcome


def opened(search: Search) -> Study:
    return Study.open(search.journal.name, search.journal.url)


def test_a_front_is_read_while_the_search_runs(search: Search) -> None:
    study = opened(search)
    front = study.front()
    assert study.recommendation is None
    scores, sizes = [m["score"] for m in front], [m["bpw"] for m in front]
    assert scores == sorted(scores)
    assert sizes == sorted(sizes)
    assert max(r.score for r in search.records) == scores[-1]
    for member in front:
        low, high = member["ci95"]
        assert low <= member["score"] <= high
        assert len(member["allocation"]) == len(search.setup.space.keys)
    assert "no recommendation yet" in study._repr_html_()


def test_a_study_shows_its_recommendation(
    search: Search, found: Recommendation
) -> None:
    study = opened(search)
    assert study.recommendation == found.to_json()
    assert "data:image/png;base64," in study._repr_html_()
    assert f"{found.score.mean:.2f}" in study._repr_html_()
    assert repr(study) == f"Study('study', '{search.journal.url}')"
    assert study.optuna.study_name == "study"


def test_importance_is_of_all_that_is_known(
    search: Search, found: Recommendation
) -> None:
    assert opened(search).importance() == found.to_json()["importance"]


def test_trials_are_a_table_with_a_column_for_each_group(search: Search) -> None:
    pytest.importorskip("pandas", reason="pandas is optional: a table of trials")
    table = opened(search).trials_dataframe()
    entries = search.journal.entries(search.setup.space)
    assert list(table["digest"]) == [entry.digest for entry in entries]
    full = table[table["kind"] == "full"].iloc[0]
    assert full["bpw"] == pytest.approx(16.0)
    assert {full[key] for key in search.setup.space.keys} == {"16"}
    assert "2/awq" in set(table[search.setup.space.keys[0]])


def test_a_table_of_trials_without_pandas_is_refused(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SpecError, match="pip install pandas"):
        opened(search).trials_dataframe()


@pytest.mark.slow
def test_a_report_is_written_where_it_is_asked_for(
    search: Search, found: Recommendation, tmp_path: Path
) -> None:
    del found
    study = opened(search)
    assert study.report(tmp_path / "page.html") == tmp_path / "page.html"
    assert "<h1>" in (tmp_path / "page.html").read_text()
    with pytest.raises(SpecError, match=r"not one of html, png, svg"):
        study.report(tmp_path / "page.pdf")
    assert study.explain(progress=False)["study"] == "study"


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="may have letters"):
        Study.open("../study")
    with pytest.raises(StudyError, match="there is no study"):
        Study.open("study", f"sqlite:///{tmp_path}/none.db")
