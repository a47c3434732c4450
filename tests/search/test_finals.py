from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.allocation import Allocation
from allocator.core.errors import BankError
from allocator.core.records import ADDITIVE, EVEN_MIX, LINEAR_RIVALS
from allocator.search import shipped
from allocator.search.finals import (
    FEW,
    LAST,
    MEASURED,
    UNIFORM,
    Contender,
    Finals,
    entered,
    rivals_in,
)
from allocator.search.propose import propose
from allocator.search.rivals import rivals
from allocator.search.run import baselines, conclude
from allocator.search.shipped import BANK, FINALIZED, TUNED, Shipped
from tests.search.finals import LinearBench, ending, fake_tables
from tests.searches import Told, fake_weights, runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search

SEARCHED = 600


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Finalized weights score half a point more, tuned ones two tenths beyond that."""
    fake_tables(monkeypatch)
    return fake_weights(monkeypatch, 0.5, 0.2)


def begun(toy: ModelSpec, folder: Path, **options: Any) -> Search:
    search = ending(toy, folder, searched=SEARCHED, **options)
    baselines(search)
    propose(search)
    return search


def said(search: Search) -> list[str]:
    lines: list[str] = search.watch.said  # type: ignore[attr-defined]
    return lines


def raced(search: Search) -> Finals:
    finals = entered(search, rivals(search, search.setup.space))
    finals.race()
    return finals


def test_of_a_large_model_one_of_each_kind_is_finalized(
    toy: ModelSpec, tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = begun(toy, tmp_path)
    monkeypatch.setattr(type(toy), "is_large", True)
    finals = raced(search)
    kinds = [kind for each in finals.contenders for kind in each.kinds]
    assert sorted(kinds) == sorted((MEASURED, UNIFORM, EVEN_MIX, ADDITIVE))
    assert len(set(made)) <= 4


def test_all_that_may_be_recommended_is_finalized_and_the_rest_stops_early(
    toy: ModelSpec, tmp_path: Path, made: list[str]
) -> None:
    search = begun(toy, tmp_path)
    finals = raced(search)
    kinds = {kind for each in finals.contenders for kind in each.kinds}
    assert {MEASURED, UNIFORM, EVEN_MIX, ADDITIVE} <= kinds
    digests = [each.allocation.digest for each in finals.contenders]
    assert sorted(made) == sorted(digests)
    stopped = [each for each in finals.contenders if each.size == FEW]
    best = max(finals.contenders, key=lambda c: c.rank)
    assert best.size == SEARCHED
    assert stopped
    assert all(each.rank < best.rank for each in stopped)
    # on the search set alone
    assert not [
        run
        for run in runs(search)
        if run[2] == 500 and run[1] not in (search.confirmed)
    ]


def test_the_last_are_a_few_that_may_be_as_good(
    toy: ModelSpec, tmp_path: Path, made: list[str]
) -> None:
    del made
    finals = raced(begun(toy, tmp_path, trials=6))
    last = finals.last()
    assert 1 <= len(last) <= LAST
    assert last[0] is max(finals.contenders, key=lambda c: c.rank)
    assert all(each.size == SEARCHED for each in last)


def test_scores_choose_the_weights_and_those_of_the_bank_need_no_others() -> None:
    each = Contender(Allocation(()), [MEASURED], 4.0)
    assert each.weights == BANK
    each.scores = {FINALIZED: (1.0, 2.0)}
    assert each.weights == FINALIZED
    each.scores[TUNED] = (2.0, 1.0)
    assert each.weights == TUNED
    # they were chosen by these samples
    each.scores[BANK] = (3.0, 3.0)
    assert each.weights == TUNED
    each.scores[FINALIZED] = (1.5, 2.0)
    assert (each.weights, each.values) == (FINALIZED, (1.5, 2.0))


def test_no_score_is_taken_twice_whoever_asks(
    toy: ModelSpec, tmp_path: Path, made: list[str]
) -> None:
    search = begun(toy, tmp_path)
    smallest = search.setup.space.smallest
    first = Shipped(search).values(smallest, FINALIZED, FEW)
    assert len(first) == FEW
    done, again = len(runs(search)), begun(toy, tmp_path)
    assert Shipped(again).values(smallest, FINALIZED, FEW) == first
    assert Shipped(search).values(smallest, FINALIZED, FEW) == first
    assert (len(runs(search)), made) == (done, [smallest.digest])
    assert [run for run in runs(again) if run[2] == FEW] == []
    # other samples, and other weights, are other measurements
    Shipped(search).values(smallest, FINALIZED, SEARCHED)
    Shipped(search).values(smallest, TUNED, FEW)
    assert len(runs(search)) == done + 2


def test_the_banks_scores_are_those_of_the_search(
    toy: ModelSpec, tmp_path: Path, made: list[str]
) -> None:
    search = begun(toy, tmp_path)
    done, smallest = len(runs(search)), search.setup.space.smallest
    known = search.journal.sample_scores(search.setup.space)[smallest.digest]
    assert Shipped(search).values(smallest, BANK, SEARCHED) == known
    assert (len(runs(search)), made) == (done, [])


def test_what_cannot_be_finalized_keeps_the_banks_weights(
    toy: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tables(monkeypatch)
    fake_weights(monkeypatch)

    def fails(*_: object, **__: object) -> None:
        raise BankError("no room")

    monkeypatch.setattr("allocator.search.shipped.finalize", fails)
    search = begun(toy, tmp_path)
    finals = raced(search)
    assert {each.weights for each in finals.contenders} == {BANK}
    assert all(each.values for each in finals.contenders)
    told = [line for line in said(search) if "cannot be quantized in sequence" in line]
    # once each
    assert len(told) == len(set(told)) == len(finals.contenders)
    assert finals.last()[0].weights == BANK


def test_tuned_weights_count_where_they_score_no_less(
    toy: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tables(monkeypatch)
    for folder, gain, chosen in (("a", 0.0, TUNED), ("b", -0.1, FINALIZED)):
        fake_weights(monkeypatch, 0.5, gain)
        (tmp_path / folder).mkdir()
        finals = raced(begun(toy, tmp_path / folder, tune=True))
        finals.tune()
        told = (*finals.last(), *finals.compared())
        assert {each.weights for each in told} == {chosen}


@pytest.mark.parametrize("options", [{}, {"tune": True}, {"refine": True}])
def test_nothing_that_is_shown_is_ahead_of_what_is_recommended(
    toy: ModelSpec, tmp_path: Path, made: list[str], options: dict[str, Any]
) -> None:
    del made
    # one of the rivals turns out to be best on the evaluation set
    begins = begun(toy, tmp_path, **options)
    mix = rivals(begins, begins.setup.space)[EVEN_MIX]

    def lucky(allocation: Allocation, size: int) -> float:
        return 30.0 * (size == 500 and allocation == mix)

    search = begun(toy, tmp_path, tells=lucky, **options)
    found = conclude(search)
    assert found.allocation == mix
    for each in found.rivals:
        assert each.versus is not None
        assert each.versus.mean >= 0
    shown = [u.score for u in found.uniform if u.score is not None]
    assert max(shown) <= found.score.mean
    names = {each.name for each in found.rivals}
    assert {EVEN_MIX, ADDITIVE} <= names
    assert bool(names & set(LINEAR_RIVALS)) == bool(options.get("refine"))


@pytest.mark.parametrize("options", [{}, {"tune": True, "refine": True}])
def test_asked_again_it_repeats_nothing_and_recommends_the_same(
    toy: ModelSpec, tmp_path: Path, made: list[str], options: dict[str, Any]
) -> None:
    search = begun(toy, tmp_path, trials=5, **options)
    found = conclude(search).to_json()
    assert found["evaluated_samples"] == sum(n for _, _, n in runs(search))
    made.clear()
    again = begun(toy, tmp_path, trials=5, **options)
    same = conclude(again).to_json()
    assert runs(again) == []
    for key in ("recommended", "rivals", "uniform", "front", "finalists"):
        assert same[key] == found[key]
    # what is recommended and shown is opened, and nothing else
    assert len(made) < len(found["finalists"])


@pytest.mark.parametrize("at", [3, 7, 12, 20])
def test_a_kill_loses_nothing_that_was_scored(
    toy: ModelSpec, tmp_path: Path, made: list[str], at: int
) -> None:
    del made
    whole = tmp_path / "whole"
    killed = tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    options = {"trials": 5, "tune": True, "refine": True}
    wanted = conclude(begun(toy, whole, **options)).to_json()
    search = begun(toy, killed, **options)
    bench: Any = search.bench
    last = len(bench.runs) + at

    def stop(*_: object) -> float:
        if len(bench.runs) > last:
            raise KeyboardInterrupt
        return 0.0

    bench.tells = stop
    with pytest.raises(KeyboardInterrupt):
        conclude(search)
    done = [run for run in runs(search)[:-1] if run[0] == "score"]
    again = begun(toy, killed, **options)
    found = conclude(again).to_json()
    for key in ("recommended", "rivals", "finalists"):
        assert found[key] == wanted[key]
    both = [run for run in (*done, *runs(again)) if run[0] == "score"]
    # an allocation is scored on as many samples once by each kind of weights
    assert max(both.count(run) for run in both) <= 3


def test_weights_of_what_was_not_evaluated_are_taken_away(
    toy: ModelSpec, tmp_path: Path, made: list[str]
) -> None:
    search = begun(toy, tmp_path, tune=True)
    told = conclude(search).to_json()
    left = {name for name in made if shipped.is_finalized(name)}
    shown = {each["digest"] for each in (told["recommended"], *told["rivals"])}
    assert len(left) < len(set(made))
    assert {f"{digest} tuned" for digest in shown} <= left
    # where another process took away what is open here, it is made anew
    held = Shipped(search)
    smallest = search.setup.space.smallest
    first = held.evaluated(smallest, TUNED)
    count, bench = len(made), search.bench
    gone = [BankError("they are gone")]

    @contextmanager
    def under(cells: Any) -> Iterator[Any]:
        if gone:
            raise gone.pop()
        with LinearBench.under(bench, cells) as found:  # type: ignore[arg-type]
            yield found

    bench.under = under  # type: ignore[method-assign, assignment]
    assert held.evaluated(smallest, TUNED) == first
    assert (len(made), said(search)) == (count + 1, [])


def test_rivals_are_told_in_order() -> None:
    kinds = (["linear_fisher"], [ADDITIVE, MEASURED], [UNIFORM], [EVEN_MIX], ["other"])
    each = [Contender(Allocation(()), list(own), 4.0) for own in kinds]
    assert list(rivals_in(each)) == [EVEN_MIX, ADDITIVE, "linear_fisher", "other"]


def test_phases_and_seconds_tell_how_long_each_took(
    toy: ModelSpec, tmp_path: Path, made: list[str]
) -> None:
    del made
    search = begun(toy, tmp_path, tune=True, refine=True)
    found = dict(conclude(search).seconds)
    watch: Any = search.watch
    assert isinstance(watch, Told)
    phases = ("finalists", "refinement", "tuning", "confirmation")
    assert [each for each in watch.phases if each in phases] == list(phases)
    assert {"finalists", "refinement", "tuning", "confirm"} <= found.keys()
