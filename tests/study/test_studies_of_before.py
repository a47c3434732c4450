"""Studies as earlier versions kept them, each kind built by hand, as it was then.

Layout 0, before layouts were counted, in the order in which it came to be:

- a study's attributes, and a trial's, among those that dashboards show;
- owners of trials as host and number alone, without a lease;
- scores and looks that are no finite number;
- recommendations with a password, or with numbers that are not finite;
- sizes of a model without the bytes beside its groups (`tests/space/test_targets.py`);
- no replies, and scores without the order of the evaluation set
  (`tests/search/test_evaluating.py`);
- no parts of what makes measurements comparable (`test_identity.py`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.errors import StudyError
from allocator.core.records import TrialRecord
from allocator.space.model import ModelSpace
from allocator.study.journal import Journal
from allocator.study.owners import EXPIRES, Leases
from allocator.study.per_sample import encode_scores
from allocator.study.recommendations import recommendation

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec

SECRET = "postgresql://me:hunter2-of-mine@host/studies"


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return ModelSpace(toy, Scheme(), (Choice(2, "awq"), Choice(16)), Budget(16))


@pytest.fixture(params=["sqlite:///{}/x.db", "{}/x.log"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


@pytest.fixture
def old(url: str) -> optuna.Study:
    """A study that keeps what it measures among what people are shown."""
    storage: Any = url
    if url.endswith(".log"):
        backend = optuna.storages.journal.JournalFileBackend(url)
        storage = optuna.storages.JournalStorage(backend)
    made = optuna.create_study(storage=storage, study_name="x", direction="maximize")
    made.set_user_attr("identity", "a")
    made.set_user_attr("spec", {"budget": "4.0"})
    return made


def add(
    study: optuna.Study,
    space: ModelSpace,
    allocation: Allocation,
    state: TrialState = TrialState.COMPLETE,
    value: float | None = None,
    **about: Any,
) -> None:
    """A trial with everything about it in one place."""
    known = {"kind": "proposal", "budget": "4", "applied": "cells", "limit": 4.0}
    trial = create_trial(
        state=state,
        value=value,
        params=space.params(allocation),
        distributions=dict(space.distributions),
        user_attrs={**known, "digest": allocation.digest, **about},
    )
    study.add_trial(trial)


def opened(url: str) -> Journal:
    return Journal.create(url, "x", "a", {"budget": "5.0"})


def test_attributes_among_what_people_are_shown_are_read(
    old: optuna.Study, url: str, space: ModelSpace
) -> None:
    add(old, space, space.smallest, value=70.0)
    assert Journal.load(url, "x").attribute("spec") == {"budget": "4.0"}
    journal = opened(url)
    (record,) = journal.records(space)
    assert record == TrialRecord(
        *(space.smallest, 70.0, space.bpw(space.smallest), "proposal", "cells"),
        *("4", 4.0, False),
    )
    # what is asked of it now is kept elsewhere, and comes first
    assert journal.attribute("spec") == {"budget": "5.0"}
    with pytest.raises(StudyError, match="'x' exists and measures another"):
        Journal.create(url, "x", "b", {})


def test_an_owner_without_a_lease_is_waited_for_a_minute(
    old: optuna.Study, url: str, space: ModelSpace
) -> None:
    state = TrialState.RUNNING
    add(old, space, space.smallest, state, owner="another-host:17")
    passed = [0.0]
    leases = Leases(lambda: passed[0])
    journal = Journal(opened(url).study, url, leases)
    for passed[0] in (0.0, EXPIRES):
        assert journal.release_stale() == []
    passed[0] = EXPIRES + 1
    assert journal.release_stale() == [0]


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_a_score_that_is_no_finite_number_is_a_failure(
    old: optuna.Study, url: str, space: ModelSpace, value: float
) -> None:
    add(old, space, space.smallest, value=value)
    journal = opened(url)
    assert journal.records(space) == []
    assert list(journal.failures(space)) == [space.smallest.digest]


def test_scores_of_samples_are_read_and_their_numbers_judged(
    old: optuna.Study, url: str, space: ModelSpace
) -> None:
    values = {"score of each sample": encode_scores([1.0, math.nan])}
    add(old, space, space.smallest, value=1.0, **values)
    add(old, space, space.full, value=90.0, kind="full", budget=None)
    journal = opened(url)
    assert [record.kind for record in journal.records(space)] == ["full"]
    (reason,) = journal.failures(space).values()
    assert reason == "scores no finite number on 1 of 2 samples"


def test_looks_that_are_no_finite_number_are_read(
    old: optuna.Study, url: str, space: ModelSpace
) -> None:
    labels = list(space.by_label)
    low = [labels.index(str(choice)) for _, choice in space.smallest]
    rows = [[low, "divergence", 32, 0.5], [low, "divergence", 128, math.inf]]
    looks = {"at": 0, "budget": "4", "labels": labels, "rows": rows}
    old.set_user_attr("looks:4:digest", looks)
    found = list(opened(url).looks(space))
    assert [(budget, key) for budget, _, key, _ in found] == [
        ("4", ("divergence", 32)),
        ("4", ("divergence", 128)),
    ]
    assert [value for *_, value in found] == [0.5, math.inf]
    assert {allocation for _, allocation, _, _ in found} == {space.smallest}


def result(storage: str, score: float) -> dict[str, Any]:
    """What a search came to, as far as it is read here."""
    members = [{"score": score, "bpw": 3.0}, {"score": 60.0, "bpw": 2.0}]
    told = {"recommended": {"score": score}, "full_precision": {"score": 90.0}}
    return {"found": {**told, "storage": storage, "front": members}, "plan": {}}


def test_a_recommendation_with_a_password_is_read_without_it(
    old: optuna.Study, url: str
) -> None:
    old.set_user_attr("recommendation:4", result(SECRET, 70.0))
    old.set_user_attr("latest", "4")
    shown = recommendation(Journal.load(url, "x"))["found"]
    assert shown["storage"] == "postgresql://me:***@host/studies"
    kept = opened(url).attribute("recommendation:4")
    assert kept["found"]["storage"] == shown["storage"]


def test_a_recommendation_that_hangs_on_no_number_is_none(
    old: optuna.Study, url: str
) -> None:
    old.set_user_attr("recommendation:4", result("x", math.nan))
    old.set_user_attr("latest", "4")
    with pytest.raises(StudyError, match="has no recommendation yet"):
        recommendation(Journal.load(url, "x"))
