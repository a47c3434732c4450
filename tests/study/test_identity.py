from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
import pytest

from allocator.core.errors import StudyError
from allocator.study.identity import Identity
from allocator.study.journal import Journal
from allocator.study.making import IDENTITY, LAYOUT, PARTS, VERSION
from allocator.study.storage import open_storage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["sqlite:///{}/x.db", "{}/x.log"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


def identity(digest: str, model: str = "A", of: str = "1", seed: str = "0") -> Identity:
    return Identity.of(digest, {"model": (f"{model} (digest {of})", of), "seed": seed})


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (identity("b", seed="1"), "seed 0, not 1"),
        # the same files by another name are the same model
        (identity("b", model="B", seed="1"), "seed 0, not 1"),
        (
            identity("b", model="B", of="2", seed="1"),
            "model A (digest 1), not B (digest 2); seed 0, not 1",
        ),
    ],
)
def test_what_differs_is_named(url: str, other: Identity, said: str) -> None:
    Journal.create(url, "x", identity("a"), {})
    with pytest.raises(StudyError) as refused:
        Journal.create(url, "x", other, {})
    assert str(refused.value) == f"study 'x' measures {said}: choose another --study"
    # and the study is as it was
    Journal.create(url, "x", identity("a"), {})


@pytest.mark.parametrize("theirs", [identity("a"), "a"])
@pytest.mark.parametrize("ours", [identity("b"), "b"])
def test_where_nobody_knows_what_differs_all_is_named_that_may(
    url: str, theirs: str, ours: str
) -> None:
    Journal.create(url, "x", theirs, {})
    with pytest.raises(StudyError, match="'x' exists and measures another model, task"):
        Journal.create(url, "x", ours, {})


def of_before(url: str) -> optuna.Study:
    """A study as versions kept it that knew neither parts nor layouts."""
    study = optuna.create_study(
        storage=open_storage(url), study_name="x", direction="maximize"
    )
    study._storage.set_study_system_attr(study._study_id, IDENTITY, "a")
    return study


def test_a_study_of_before_is_gone_on_with_and_kept_as_this_version_does(
    url: str,
) -> None:
    study = of_before(url)
    journal = Journal.create(url, "x", identity("a"), {})
    assert journal.attribute(LAYOUT) == VERSION
    kept = study._storage.get_study_system_attrs(study._study_id)
    assert (kept[LAYOUT], kept[IDENTITY], kept.get(PARTS)) == (VERSION, "a", None)


def test_a_study_of_a_newer_version_is_refused_and_left_alone(url: str) -> None:
    Journal.create(url, "x", identity("a"), {}).set_attribute(LAYOUT, VERSION + 1)
    said = (
        "study 'x' is kept as a newer version of allocate keeps studies (layout "
        f"{VERSION + 1}; this one reads up to {VERSION}): use that version, or choose "
        "another --study"
    )
    study = optuna.load_study(storage=open_storage(url), study_name="x")
    before = study._storage.get_study_system_attrs(study._study_id)
    with pytest.raises(StudyError) as refused:
        Journal.create(url, "x", identity("a"), {"budget": "5"})
    assert str(refused.value) == said
    # whoever only reads would misread it
    with pytest.raises(StudyError) as refused:
        Journal.load(url, "x").attribute("spec")
    assert str(refused.value) == said
    assert study._storage.get_study_system_attrs(study._study_id) == before
