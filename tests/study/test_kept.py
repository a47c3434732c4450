"""What is kept with a study is read once, and anew as soon as somebody else wrote."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

import optuna
import pytest
import sqlalchemy as sa

from allocator.core.errors import GoneError
from allocator.study import kept
from allocator.study.database import Database
from allocator.study.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Server

# does not pack well: it is kept in parts
LONG = random.Random(0).sample(range(10**9), 20_000)


@pytest.fixture(params=["sqlite", "postgres", "log"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgres":
        server: Server = request.getfixturevalue("postgres")
        return server.new_url()
    known = {"sqlite": f"sqlite:///{tmp_path}/x.db", "log": f"{tmp_path}/x.log"}
    return known[request.param]


@pytest.fixture
def two(url: str) -> tuple[Journal, Journal]:
    first = Journal.create(url, "study", "identity", {})
    return first, Journal.load(url, "study")


@contextmanager
def reads(journal: Journal) -> Iterator[Counter[str]]:
    """How often which of a database's calls were made."""
    database, found = journal._kept.database, Counter[str]()
    assert database is not None
    names = ("get_attribute", "get_attributes", "get_all_attributes")

    def counted(name: str, call: Any) -> Any:
        def counting(*given: Any) -> Any:
            found[name] += 1
            return call(*given)

        return counting

    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(database, name, counted(name, getattr(database, name)))
        yield found


def test_each_of_two_sees_at_once_what_the_other_wrote(
    two: tuple[Journal, Journal],
) -> None:
    for turn in range(6):
        writer, reader = two[turn % 2], two[1 - turn % 2]
        writer.set_attribute("value", turn)
        writer.set_attribute(f"own {turn}", [turn])
        assert (reader.attribute("value"), writer.attribute("value")) == (turn, turn)
        assert reader.attribute(f"own {turn}") == [turn]
    writer.set_attribute("long", LONG)
    assert reader.attribute("long") == LONG
    writer.set_attribute("long", None)
    assert reader.attribute("long") is None
    assert sorted(reader.attributes("own ")) == [[turn] for turn in range(6)]


def test_what_is_told_to_people_is_seen_by_both(two: tuple[Journal, Journal]) -> None:
    first, second = two
    assert second.attribute("model") is None
    first.describe("accuracy", {"model": "a", "task": "b"})
    assert [each.attribute("model") for each in two] == ["a", "a"]


def test_both_write_and_neither_loses_anything(two: tuple[Journal, Journal]) -> None:
    def write(journal: Journal, stem: str) -> None:
        for number in range(15):
            journal.set_attribute(f"{stem}{number}", number)

    threads = [
        Thread(target=write, args=(journal, stem))
        for journal, stem in zip(two, "ab", strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {f"{stem}{number}": number for stem in "ab" for number in range(15)}
    for journal in two:
        assert {name: journal.attribute(name) for name in wanted} == wanted


def test_what_is_read_is_nobody_elses_to_change(two: tuple[Journal, Journal]) -> None:
    if two[0]._kept.database is None:
        pytest.skip("Optuna reads the file")
    two[0].set_attribute("value", {"a": [1]})
    two[0].attribute("value")["a"].append(2)
    assert two[0].attribute("value") == {"a": [1]}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Journal, Journal]:
    url = f"sqlite:///{tmp_path}/x.db"
    return Journal.create(url, "study", "identity", {}), Journal.load(url, "study")


def test_what_is_known_is_not_read_again(pair: tuple[Journal, Journal]) -> None:
    first, second = pair
    for number in range(30):
        first.set_attribute(f"value {number}", number)
    assert len(second.attributes("value ")) == 30
    with reads(second) as found:
        for number in range(30):
            assert second.attribute(f"value {number}") == number
    # nothing but the token, each time
    assert found == {"get_attribute": 30}


def test_of_what_another_wrote_that_alone_is_read(
    pair: tuple[Journal, Journal],
) -> None:
    first, second = pair
    second.attribute("value")
    first.set_attribute("value", 1)
    with reads(second) as found:
        assert second.attribute("value") == 1
        assert second.attribute("value") == 1
    # the token twice, and once what was written since
    assert found == {"get_attribute": 3, "get_attributes": 1}


def test_what_one_wrote_itself_is_known(pair: tuple[Journal, Journal]) -> None:
    first, _ = pair
    first.attribute("value")
    with reads(first) as found:
        first.set_attribute("value", 1)
        assert first.attribute("value") == 1
    assert set(found) == {"get_attribute"}


def test_who_missed_too_much_reads_everything(
    pair: tuple[Journal, Journal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST", 3)
    first, second = pair
    second.attribute("value 0")
    for number in range(5):
        first.set_attribute(f"value {number}", number)
    with reads(second) as found:
        assert second.attribute("value 0") == 0
    assert found["get_all_attributes"] == 1


def test_a_study_of_before_is_read_and_written_to(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    study = optuna.create_study(storage=url, study_name="old", direction="maximize")
    number, storage = study._study_id, study._storage
    storage.set_study_system_attr(number, "spec", {"budget": "4"})
    storage.set_study_user_attr(number, "damage", [1])
    storage.set_study_user_attr(number, "spec", {"budget": "3"})
    journals = [Journal.load(url, "old") for _ in range(2)]
    for journal in journals:
        assert journal.attribute("spec") == {"budget": "4"}
        assert journal.attribute("damage") == [1]
    journals[0].set_attribute("damage", [2])
    assert [each.attribute("damage") for each in journals] == [[2], [2]]


def test_tables_of_another_form_are_left_to_optuna(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    journal = Journal.create(url, "study", "identity", {})
    assert isinstance(journal._kept.database, Database)
    journal.set_attribute("value", 1)
    engine = sa.create_engine(url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("allocator.study.database.FORM", "v9")
        other = Journal.load(url, "study")
    engine.dispose()
    assert other._kept.database is None
    assert other.attribute("value") == 1
    journal.set_attribute("value", 2)
    assert other.attribute("value") == 2
    # nor is anything missed of what is written by Optuna's means
    third = Journal.load(url, "study")
    for number in range(3, 6):
        assert third.attribute("value") == number - 1
        other.set_attribute("value", number)
        assert journal.attribute("value") == number
        journal.set_attribute("own", number)
    assert third.attribute("value") == 5
    other.describe("accuracy", {"model": "a"})
    assert [each.attribute("model") for each in (journal, third)] == ["a", "a"]


def test_a_study_that_is_deleted_in_use_is_missed(
    pair: tuple[Journal, Journal],
) -> None:
    first, second = pair
    second.attribute("value")
    optuna.delete_study(study_name="study", storage=first.study._storage)
    with pytest.raises(GoneError, match="deleted in use"):
        second.attribute("value")
    with pytest.raises(GoneError, match="deleted in use"):
        first.set_attribute("value", 1)
