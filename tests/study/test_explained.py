from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import StudyError
from allocator.study.database import Database
from allocator.study.explained import keep, recalled
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


def raw(journal: Journal) -> dict[str, Any]:
    """What the storage holds for the study, piece by piece."""
    study = journal.study
    return dict(study._storage.get_study_system_attrs(study._study_id))


def test_no_value_is_longer_than_databases_keep(journal: Journal) -> None:
    before = set(raw(journal))
    keep(journal, "effects", "a", LONG)
    pieces = [value for name, value in raw(journal).items() if name not in before]
    assert len(pieces) > 2
    assert all(len(json.dumps(piece)) < 65_535 for piece in pieces)
    assert recalled(journal, "effects", "a") == LONG
    # shorter afterwards: the rest of the pieces is of no account
    keep(journal, "effects", "b", [1])
    assert recalled(journal, "effects", "b") == [1]


def test_what_another_process_wrote_in_half_is_not_read(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.load(journal.url, "study")
    written: list[str] = []
    write = Database._update

    def stopped(database: Database, connection: Any, name: str, text: Any) -> bool:
        if name.startswith("part:") and written:
            raise StudyError("killed")
        written.append(name)
        return write(database, connection, name, text)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_update", stopped)
        keep(journal, "effects", "a", LONG)
    assert written
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
