from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import StudyError
from allocator.study.explained import EXPLAINED, MOST, keep, recalled
from allocator.study.journal import Journal
from tests.searches import asked_for

if TYPE_CHECKING:
    from pathlib import Path

# does not pack well
LONG = random.Random(0).sample(range(10**9), 20_000)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.fixture
def journal(file: Path) -> Journal:
    asked = asked_for().to_json()
    return Journal.create(f"sqlite:///{file}", "study", "identity", asked)


def test_what_is_kept_comes_back_while_it_rests_on_the_same(journal: Journal) -> None:
    assert recalled(journal, "effects", "a") is None
    keep(journal, "effects", "a", {"share": 0.1})
    assert recalled(journal, "effects", "a") == {"share": 0.1}
    assert recalled(journal, "effects", "b") is None
    assert recalled(journal, "other", "a") is None
    keep(journal, "effects", "b", {"share": 0.2})
    assert recalled(journal, "effects", "a") is None


def test_no_value_is_longer_than_databases_keep(journal: Journal) -> None:
    keep(journal, "effects", "a", LONG)
    pieces = journal.attributes(EXPLAINED)
    assert len(pieces) > 2
    assert all(len(str(piece)) < 65_535 for piece in pieces)
    assert len(pieces[0]["text"]) <= MOST
    assert recalled(journal, "effects", "a") == LONG
    # shorter afterwards: the rest of the pieces is of no account
    keep(journal, "effects", "b", [1])
    assert recalled(journal, "effects", "b") == [1]


def test_what_another_process_wrote_in_half_is_not_read(journal: Journal) -> None:
    keep(journal, "effects", "a", LONG)
    last = f"{EXPLAINED}effects:1"
    piece = journal.attribute(last)
    journal.set_attribute(last, {**piece, "rests_on": "b"})
    assert recalled(journal, "effects", "a") is None


def test_a_study_that_cannot_be_written_to_keeps_nothing(
    journal: Journal, file: Path
) -> None:
    assert journal.name == "study"
    reading = Journal.load(f"sqlite:///file:{file}?mode=ro&uri=true", "study")
    with pytest.raises(StudyError):
        reading.set_attribute("any", 1)
    keep(reading, "effects", "a", {"share": 0.1})
    assert recalled(reading, "effects", "a") is None


def test_a_locked_study_is_not_waited_for_in_vain(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: Any) -> None:
        raise StudyError("storage was locked")

    monkeypatch.setattr(Journal, "set_attribute", busy)
    keep(journal, "effects", "a", 1)
    assert recalled(journal, "effects", "a") is None
