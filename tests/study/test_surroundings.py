from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.study import surroundings
from allocator.study.journal import ARITHMETIC, Journal
from allocator.study.surroundings import compared, note, versions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    made = Journal.create(f"{tmp_path}/studies.log", "first", "identity", {})
    made.set_attribute(ARITHMETIC, "cuda/bfloat16")
    return made


def installed(patch: pytest.MonkeyPatch, **others: str) -> None:
    """Have other versions of some packages."""
    known = versions() | others
    patch.setattr(surroundings, "version", known.__getitem__)


def test_the_same_versions_on_the_same_kind_of_device_are_no_matter(
    journal: Journal,
) -> None:
    note(journal)
    assert compared(journal, "cuda/bfloat16") == ([], None)


def test_nothing_is_said_where_nothing_is_known(journal: Journal) -> None:
    journal.set_attribute(ARITHMETIC, None)
    assert compared(journal, "cpu/float32") == ([], None)


def test_other_versions_are_named_theirs_and_ours(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        installed(patch, torch="2.0.1", numpy="1.26.0")
        note(journal)
    installed(monkeypatch, torch="2.9.0", numpy="1.26.0")
    (warning,), refusal = compared(journal)
    assert warning == (
        "study 'first' runs with torch 2.0.1, here 2.9.0: numbers may differ in their "
        "last digits"
    )
    assert refusal is None


def test_only_what_computes_is_compared() -> None:
    assert set(versions()) == {"allocate-vlm", "torch", "transformers", "numpy"}


def test_a_package_that_is_missing_is_a_difference_and_no_error(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(journal)
    monkeypatch.setattr(surroundings, "COMPUTES", ("torch", "no-such-package"))
    assert versions()["no-such-package"] == "none"
    assert compared(journal) == ([], None)


@pytest.mark.parametrize(
    ("ours", "words"),
    [("cpu/float32", "cpu in float32"), ("cuda/float16", "cuda in float16")],
)
def test_another_kind_of_device_or_type_is_refused_unless_asked_for(
    journal: Journal, ours: str, words: str
) -> None:
    said = (
        "study 'first' is computed on cuda in bfloat16, and this process computes on "
        f"{words}: its numbers differ"
    )
    assert compared(journal, ours) == ([], said)
    assert compared(journal, ours, mixed=True) == ([said], None)


def test_the_leader_notes_what_it_runs_with_anew(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(journal)
    installed(monkeypatch, torch="99.0")
    assert compared(journal)[0] != []
    # it led before: now this process leads
    note(journal)
    assert compared(journal)[0] == []
