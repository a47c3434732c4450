from __future__ import annotations

import json
import random
from functools import wraps
from typing import TYPE_CHECKING, Any

import optuna
import pytest

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.spec import Group, Linear, ModelSpec
from allocator.space.model import ModelSpace
from allocator.study import storage as storage_room
from allocator.study.database import Database
from allocator.study.journal import COSTS, MEASURED, Journal
from allocator.study.once import patient_storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from optuna.storages import BaseStorage

# what MySQL keeps in a TEXT
MOST = 2**16 - 1


class TooLargeError(AssertionError):
    """A value that MySQL would refuse."""


def checked(call: Callable[..., Any]) -> Callable[..., Any]:
    """A call to a storage that refuses what MySQL would."""

    @wraps(call)
    def checking(*args: Any, **more: Any) -> Any:
        given = (*args, *more.values())
        trials = [each for each in given if isinstance(each, optuna.trial.FrozenTrial)]
        told = [{**trial.user_attrs, **trial.system_attrs} for trial in trials]
        for value in (*given, *(value for about in told for value in about.values())):
            if len(json.dumps(value, default=lambda _: "")) > MOST:
                raise TooLargeError(call.__name__)
        return call(*args, **more)

    return checking


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every storage refuses what MySQL would."""
    writes = ("set_study_system_attr", "set_study_user_attr")
    of_trials = ("set_trial_system_attr", "create_new_trial")

    def opened(storage: BaseStorage, patience: Any) -> BaseStorage:
        for name in (*writes, *of_trials):
            monkeypatch.setattr(storage, name, checked(getattr(storage, name)))
        return patient_storage(storage, patience)

    monkeypatch.setattr(storage_room, "patient_storage", opened)
    update = Database._update

    def updated(database: Database, connection: Any, name: str, text: Any) -> bool:
        if isinstance(text, str) and len(text) > MOST:
            raise TooLargeError(name)
        return update(database, connection, name, text)

    monkeypatch.setattr(Database, "_update", updated)


@pytest.fixture(params=["sqlite:///{}/x.db", "{}/x.log"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


def large_model(groups: int = 240) -> ModelSpec:
    """As many groups as a model of 7 billion weights has at `--granularity block`."""
    return ModelSpec(
        "llava",
        parameters=groups * 4096 + 1000,
        groups=tuple(
            Group(
                f"language.{at:03}.self_attn.out_proj",
                (Linear(f"layers.{at}", "language", at, "attn", 64, 64),),
            )
            for at in range(groups)
        ),
        left_out=(),
    )


def large_space() -> ModelSpace:
    methods = ("uniform", "gptq", "awq")
    choices = [Choice(bits, m) for bits in (2, 3, 4, 5, 6, 8) for m in methods]
    return ModelSpace(large_model(), Scheme(), (*choices, Choice(16)), Budget(4.5))


@pytest.fixture
def journal(url: str, limited: None) -> Journal:
    del limited
    return Journal.create(url, "first", "identity", {})


def noise(count: int) -> list[float]:
    drawn = random.Random(0)
    return [drawn.random() for _ in range(count)]


@pytest.mark.parametrize(
    "value",
    [
        # 21,435 answers take 130 kB as text, and few values are among them
        [round(x, 1) for x in noise(21_435)],
        # nothing is alike in these: what is packed is too large as well
        noise(21_435),
        {"text": "ä" * 70_000, "none": None, "list": [1, [2.5]]},
        "short",
    ],
    ids=["answers", "noise", "words", "short"],
)
def test_large_values_come_back_exactly_from_where_none_is_large(
    journal: Journal, url: str, value: Any
) -> None:
    journal.set_attribute(MEASURED + "cells", value)
    journal.set_attribute("other", 1)
    again = Journal.load(url, "first")
    assert again.attribute(MEASURED + "cells") == value
    assert again.attributes(MEASURED) == [value]
    assert again.attributes("part:") == []


def test_the_storage_of_these_tests_refuses_what_is_too_large(journal: Journal) -> None:
    with pytest.raises(TooLargeError):
        journal.study.set_user_attr("x", "a" * 2**16)
    number, storage = journal.study._study_id, journal.study._storage
    with pytest.raises(TooLargeError):
        storage.set_study_system_attr(number, "x", "a" * 2**16)
    with pytest.raises(TooLargeError):
        journal._kept.write({"x": "a" * 2**16})


def test_a_value_that_shrinks_leaves_nothing_large_behind(
    journal: Journal, url: str
) -> None:
    journal.set_attribute("value", noise(21_435))
    journal.set_attribute("value", noise(20_000))
    assert Journal.load(url, "first").attribute("value") == noise(20_000)
    journal.set_attribute("value", None)
    number, storage = journal.study._study_id, journal.study._storage
    found = storage.get_study_system_attrs(number)
    parts = [value for name, value in found.items() if name.startswith("part:")]
    assert parts
    assert set(parts) == {None}


def test_a_kill_between_two_parts_leaves_the_value_of_before(
    journal: Journal, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.set_attribute("value", noise(21_435))
    storage, left = journal.study._storage, [1]
    kept, update = storage.set_study_system_attr, Database._update

    def live(name: str) -> None:
        if name.startswith("part:"):
            if not left:
                raise KeyboardInterrupt
            left.pop()

    def killed(number: int, name: str, value: Any) -> None:
        live(name)
        kept(number, name, value)

    def ended(database: Database, connection: Any, name: str, text: Any) -> bool:
        live(name)
        return update(database, connection, name, text)

    monkeypatch.setattr(storage, "set_study_system_attr", killed)
    monkeypatch.setattr(Database, "_update", ended)
    with pytest.raises(KeyboardInterrupt):
        journal.set_attribute("value", noise(22_000))
    assert Journal.load(url, "first").attribute("value") == noise(21_435)


def test_values_of_before_are_read_as_they_are(journal: Journal, url: str) -> None:
    number, storage = journal.study._study_id, journal.study._storage
    storage.set_study_system_attr(number, MEASURED + "old", {"values": [1.5, 2.0]})
    again = Journal.load(url, "first")
    assert again.attribute(MEASURED + "old") == {"values": [1.5, 2.0]}


def test_a_study_of_a_large_model_keeps_nothing_too_large(
    journal: Journal, url: str
) -> None:
    space = large_space()
    journal.set_attribute(COSTS, space.costs)
    values = noise(len(space.keys) * len(space.choices))
    pairs = ((key, choice) for key in space.keys for choice in space.choices)
    damage = dict(zip(pairs, values, strict=True))
    journal.keep_damage(damage)
    drawn = random.Random(1)
    some = [
        space.full.replace({key: drawn.choice(space.choices) for key in space.keys})
        for _ in range(48)
    ]
    rows = [(a, ("divergence", n), drawn.random()) for a in some for n in (32, 128)]
    journal.keep_looks(space, some[0].digest, "4.5", rows)
    number = journal.begin(space, some[0], {"kind": "proposal", "budget": "4.5"})
    journal.complete(number, 1.0, noise(21_435))
    again = Journal.load(url, "first")
    assert again.damage(space) == damage
    assert [look[1:] for look in again.looks(space)] == rows
    (scores,) = again.sample_scores(space).values()
    assert scores == pytest.approx(noise(21_435), abs=1e-7)
