"""What importance of a study rests on, in a search of a formula."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allocator.explain import kept
from allocator.explain.evidence import LEVELS
from allocator.explain.explanation import explain_study, space_of_study
from allocator.explain.kept import importance_of
from allocator.explain.rows import LEAST, evidence_of, largest
from allocator.search.propose import propose
from allocator.search.run import baselines
from allocator.study.descent import descent
from tests.searches import asked_for, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search

TRIALS = 12


@pytest.fixture
def search(toy: ModelSpec, tmp_path: Path) -> Search:
    found = search_of(toy, f"{tmp_path}/studies.log", asked_for(trials=TRIALS))
    baselines(found)
    propose(found)
    return found


def test_importance_rests_on_proposals_and_what_was_looked_at_for_them(
    search: Search,
) -> None:
    journal, space = search.journal, space_of_study(search.journal)
    found = evidence_of(journal, space)
    records = {r.allocation.digest: r for r in journal.records(space)}
    measured = {d for d, r in records.items() if r.kind == "proposal"}
    assert len(measured) == TRIALS < len(records)
    assert found.imputation is not None
    of_measured = np.array(found.digests)[found.imputation.measured]
    assert set(of_measured) == measured
    # the score of the formula, which the divergence here tells without an error
    looked = {a.digest: a for _, a, (_, n), _ in journal.looks(space) if n >= LEAST}
    assert set(found.digests) == measured | (looked.keys() - records.keys())
    for digest, score in zip(found.digests, found.scores, strict=True):
        if digest in looked:
            assert score == pytest.approx(search.bench.scored(looked[digest]))
    assert found.imputation.worth == pytest.approx(len(found.digests))


def test_rows_of_one_proposal_are_one_cluster(search: Search) -> None:
    space = space_of_study(search.journal)
    found = evidence_of(search.journal, space)
    assert found.clusters is not None
    proposal = descent(search.journal, space)
    assert [proposal[digest] for digest in found.digests] == found.clusters.tolist()
    assert 2 < len(set(found.clusters.tolist())) <= TRIALS < len(found.digests)


def test_baselines_count_where_there_is_nothing_else(
    toy: ModelSpec, tmp_path: Path
) -> None:
    search = search_of(toy, f"{tmp_path}/studies.log", asked_for())
    baselines(search)
    space = space_of_study(search.journal)
    found = evidence_of(search.journal, space)
    assert len(found.digests) == len(search.journal.records(space))
    assert "too few" in importance_of(search.journal, space)["unreliable"]["group"]


def test_of_each_kind_the_look_on_most_samples_counts() -> None:
    taken = {("divergence", 32): 0.4, ("divergence", 128): 0.3, ("score", 256): 90.0}
    assert largest(taken) == {("divergence", 128): 0.3, ("score", 256): 90.0}
    assert largest({}) == {}


def test_what_was_worked_out_is_worked_out_again_only_for_other_rows(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(evidence: Any) -> dict[str, Any]:
        made.append(len(evidence.scores))
        return {"rows": len(evidence.scores)}

    monkeypatch.setattr(kept, "importance", counted)
    space = space_of_study(search.journal)
    first = importance_of(search.journal, space)
    assert importance_of(search.journal, space) == first
    assert len(made) == 1
    search.measure(space.full.replace({space.keys[0]: space.choices[0]}), "proposal")
    assert importance_of(search.journal, space)["rows"] == first["rows"] + 1
    assert made == [first["rows"], first["rows"] + 1]
    monkeypatch.setattr(kept, "VERSION", kept.VERSION + 1)
    importance_of(search.journal, space)
    assert len(made) == 3


def test_a_second_explanation_is_the_first(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def effects(*_: Any) -> dict[str, Any]:
        calls.append(1)
        importance = {
            **{level: {} for level in LEVELS},
            "unreliable": {"group": "It was not looked at."},
            "constant": [],
            "warning": None,
        }
        pairs = {"group": [], "component": [], "holdout_r2": None, "reason": "None."}
        return {"importance": importance, "interactions": pairs, "together": []}

    monkeypatch.setattr("allocator.explain.explanation.effects", effects)
    assert explain_study(search.journal) == explain_study(search.journal)
    assert len(calls) == 1
