"""Studies of before that hold what is no finite number are read all the same."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from optuna.trial import TrialState

from allocator.cli import search as cli
from allocator.core.allocation import Choice
from allocator.core.errors import StudyError
from allocator.core.spec import LeftOut, ModelSpec, build_groups
from allocator.report.study import Study
from allocator.search import run as searching
from allocator.search.estimate import estimate
from allocator.search.propose import propose
from allocator.search.run import baselines, conclude
from allocator.study.entry import REASON, VALUES
from allocator.study.journal import DAMAGE, MEASURED
from allocator.study.kept_looks import LOOKS
from allocator.study.making import kept_with
from allocator.study.per_sample import encode_scores
from allocator.study.recommendations import (
    LATEST,
    RECOMMENDED,
    keep_recommendation,
    recommendation,
)
from tests.conftest import toy_linears
from tests.searches import asked_for, fake_weights, runs, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.search.running import Search

NAN, INF = math.nan, math.inf


STORAGES = ("sqlite:///{}/studies.db", "{}/studies.log")
# looks on 32 samples alone, so that there is little to explain
SEARCHED = 100


def opened(url: str, spec: ModelSpec) -> Search:
    asked = asked_for(storage=url, study="study")
    return search_of(spec, url, asked, searched=SEARCHED)


@pytest.fixture(scope="module", params=STORAGES)
def template(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A study with a recommendation, in which a program of before left such values."""
    folder, pattern = tmp_path_factory.mktemp("template"), request.param
    head = LeftOut("head", 32 * 96, "the output layer stays as it is")
    spec = ModelSpec("toy", 102_400, build_groups(toy_linears()), (head,))
    search = opened(pattern.format(folder), spec)
    baselines(search)
    propose(search)
    with pytest.MonkeyPatch.context() as patch:
        fake_weights(patch)
        patch.setattr(searching, "strata", lambda *_: ())
        found = conclude(search)
    keep_recommendation(search.journal, search.goal.name, found, {"of": "the plan"})
    break_damage_and_looks(search)
    space = search.setup.space
    trials = ((INF, None), (-INF, None), (81.0, [80.0, NAN]))
    for key, (value, values) in zip(space.keys[:3], trials, strict=True):
        wider = space.smallest.replace({key: Choice(4, "awq")})
        add_trial(search, wider, value, values)
    break_evaluations_and_recommendation(search)
    return folder, pattern


@pytest.fixture
def broken(
    toy: ModelSpec,
    template: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Search:
    fake_weights(monkeypatch)
    monkeypatch.setattr(searching, "strata", lambda *_: ())
    folder, pattern = template
    shutil.copytree(folder, tmp_path / "study")
    return opened(pattern.format(tmp_path / "study"), toy)


def break_damage_and_looks(search: Search) -> None:
    journal = search.journal
    table = journal.attribute(DAMAGE)
    first, second, *_ = table
    table[first]["2/awq"], table[second]["2/awq"] = NAN, INF
    journal.set_attribute(DAMAGE, table)
    for name, kept in kept_with(journal.study).items():
        if name.startswith(LOOKS):
            for row, value in zip(kept["rows"], (NAN, INF, -INF, None), strict=False):
                row[-1] = value
            journal.set_attribute(name, kept)


def add_trial(
    search: Search, allocation: Allocation, value: float, values: Any
) -> None:
    """A finished trial as it was written without a look at the score."""
    journal = search.journal
    about = {
        "kind": "proposal",
        "budget": search.goal.name,
        "limit": 5.0,
        "applied": "cells",
        "divergence on 32 samples": NAN,
    }
    if values:
        about[VALUES] = encode_scores(values)
    number = journal.begin(search.setup.space, allocation, about)
    journal.study.tell(number, value)


def break_evaluations_and_recommendation(search: Search) -> None:
    journal, low = search.journal, search.setup.space.uniform[0]
    key = MEASURED + search.bench.applied(low)
    kept = journal.attribute(key)
    kept["values"][7], kept["details"] = NAN, {"BLEU-4": INF}
    journal.set_attribute(key, kept)
    key = RECOMMENDED + journal.attribute(LATEST)
    kept = journal.attribute(key)
    for uniform in kept["found"]["uniform"]:
        if uniform["digest"] == low.digest:
            uniform["score"] = NAN
    lost = {"digest": "0", "bpw": 1.0, "score": INF}
    kept["found"]["front"].append(lost)
    kept["found"]["rungs"][0]["spearman"] = NAN
    journal.set_attribute(key, kept)


def test_it_holds_what_it_is_to_hold(broken: Search) -> None:
    told = json.dumps(kept_with(broken.journal.study))
    assert {"NaN", "Infinity"} <= {
        *told.replace("[", " ").replace(",", " ").split()
    } | {word for word in ("NaN", "Infinity") if word in told}
    values = [t.value for t in broken.journal.study.trials if t.value is not None]
    assert not all(map(math.isfinite, values))


def test_its_trials_count_as_failed_ones(broken: Search) -> None:
    journal, space = broken.journal, broken.setup.space
    failures = journal.failures(space)
    assert sorted(failures.values()) == [
        "scores -inf, which is no number",
        "scores inf, which is no number",
        "scores no finite number on 1 of 2 samples",
    ]
    entries = [e for e in journal.entries(space) if e.failure]
    assert {(e.state, e.score) for e in entries} == {(TrialState.FAIL, None)}
    assert all(e.about[REASON] for e in entries)
    assert failures.keys() <= journal.taken(space)
    assert all(math.isfinite(record.score) for record in journal.records(space))
    assert failures.keys().isdisjoint(journal.sample_scores(space))


def test_the_search_goes_on_in_it(broken: Search) -> None:
    baselines(broken)
    propose(broken)
    found = conclude(broken)
    # three proposals had been asked for, and three more are there that failed
    assert (found.complete, found.failed) == (3, 3)
    low = next(u for u in found.uniform if str(u.choice) == "2/uniform")
    assert low.score is None
    assert runs(broken) == []
    json.dumps(found.to_json(), allow_nan=False)


COMMANDS = (
    ("explain", "study", "--json"),
    ("studies", "show", "study"),
    ("studies", "show", "study", "--json"),
    ("report", "study", "--out", "report.html"),
    ("report", "study", "--out", "proxies.png", "--figure", "proxies"),
)


def test_every_command_reads_it(
    broken: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = broken.journal.url
    # both kinds of storages are read alike: one is asked everything
    for words in COMMANDS if url.startswith("sqlite") else COMMANDS[1:3]:
        done = CliRunner().invoke(cli.main, [*words, "--storage", url])
        assert done.exit_code == 0, done.output
        assert not {"nan", "inf"} & set(done.stdout.lower().split())
        if "--json" in words:
            json.dumps(json.loads(done.stdout), allow_nan=False)


def test_another_budget_is_estimated_from_it(broken: Search) -> None:
    url = broken.journal.url
    found = estimate(asked_for(storage=url, study="study", budget="4"))
    assert found is not None
    assert math.isfinite(found.score)
    assert math.isfinite(found.spread)


def test_python_opens_it(broken: Search) -> None:
    study = Study.open("study", broken.journal.url)
    assert all(math.isfinite(member["score"]) for member in study.front())
    assert "data:image/png" in study._repr_html_()
    assert study.importance()


def test_a_recommendation_that_hangs_on_such_a_score_is_none(broken: Search) -> None:
    journal = broken.journal
    key = RECOMMENDED + journal.attribute(LATEST)
    kept = journal.attribute(key)
    kept["found"]["recommended"]["score"] = NAN
    journal.set_attribute(key, kept)
    with pytest.raises(StudyError, match="has no recommendation yet"):
        recommendation(journal)
