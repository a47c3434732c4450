"""Scores that may be shown, of studies written down by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from allocator.core.allocation import Choice
from allocator.core.records import TrialRecord
from allocator.explain.shown import (
    CORRECTED,
    EVALUATION,
    Shown,
    front_rows,
    indistinguishable,
)
from allocator.search import run as searching
from allocator.search.run import baselines, conclude
from tests.searches import FakeBench, asked_for, search_of, space_of

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.space.model import ModelSpace

# half of the samples lie 1 above their mean, half 1 below
SIGNS = np.array([1.0, -1.0] * 50)


@pytest.fixture
def space(toy: ModelSpec) -> ModelSpace:
    return space_of(toy)


def written(
    space: ModelSpace,
    rows: list[tuple[Allocation, str, float, float | None]],
    *,
    samples: bool = True,
) -> Shown:
    """A study of (allocation, kind, search score, evaluation score)."""
    records = {
        a.digest: TrialRecord(a, score, space.bpw(a), kind, a.digest, "b", 4.0)
        for a, kind, score, _ in rows
    }
    # each fails on samples of its own
    search = {
        a.digest: tuple(score + 4 * np.random.default_rng(place).permutation(SIGNS))
        for place, (a, _, score, _) in enumerate(rows)
    }
    evaluation = {
        a.digest: tuple(score + SIGNS) for a, _, _, score in rows if score is not None
    }
    return Shown(records, search if samples else {}, evaluation)


def widened(space: ModelSpace) -> list[Allocation]:
    """The smallest allocation with the first groups widened, ever more of them."""
    found, now = [], space.smallest
    for key in space.keys:
        now = now.replace({key: Choice(4, "awq")})
        found.append(now)
    return found


def test_what_was_measured_elsewhere_is_shown_as_it_was_there(
    space: ModelSpace,
) -> None:
    first, second = widened(space)[:2]
    shown = written(
        space,
        [
            (space.full, "full", 95.0, 94.0),
            (first, "proposal", 92.0, 89.5),
            (second, "proposal", 91.0, None),
        ],
    )
    assert shown.score(first.digest) == 89.5
    assert shown.samples(first.digest) == EVALUATION
    low, high = shown.ci95(first.digest) or (0, 0)
    # 1.96 / sqrt(100) to either side
    assert (low, high) == pytest.approx((89.5 - 0.196, 89.5 + 0.196), abs=0.03)
    assert shown.samples(second.digest) == CORRECTED
    # the first lost 2.5; the second was chosen as well, and was less lucky
    assert 91 - 2.5 < shown.score(second.digest) < 91 - 2


@pytest.mark.parametrize("samples", [True, False])
def test_the_shift_of_the_sets_is_no_optimism(space: ModelSpace, samples: bool) -> None:
    first, second = widened(space)[:2]
    rows = [
        (space.full, "full", 95.0, 92.0),
        (space.smallest, "uniform", 50.0, 47.0),
        (first, "proposal", 90.0, 86.0),
        (second, "proposal", 90.0, None),
    ]
    # 3 for all, and 1 more for proposals that have equal scores
    shown = written(space, rows, samples=samples)
    assert shown.score(second.digest) == pytest.approx(86, abs=0.2 * samples + 1e-9)
    assert (shown.ci95(second.digest) is None) != samples


def test_an_interval_knows_of_its_correction(space: ModelSpace) -> None:
    first, second, third = widened(space)[:3]
    rows = [
        (space.full, "full", 95.0, 95.0),
        (first, "proposal", 90.0, 89.0),
        (second, "proposal", 90.0, 89.0),
        (third, "proposal", 90.0, None),
    ]
    shown = written(space, rows)
    known, corrected = (shown.ci95(a.digest) for a in (first, third))
    assert known
    assert corrected
    # its samples alone: standard deviation 4, 100 of them
    assert corrected[1] - corrected[0] > 2 * 1.96 * 4 / 10
    assert corrected[1] - corrected[0] > known[1] - known[0]


def test_the_front_holds_what_nothing_smaller_beats(space: ModelSpace) -> None:
    first, second, third = widened(space)[:3]
    rows = [
        (space.smallest, "uniform", 50.0, 50.0),
        # scores no more than the smaller one
        (first, "proposal", 50.0, 50.0),
        (second, "proposal", 80.0, 70.0),
        # better on the search set alone
        (third, "proposal", 81.0, 69.0),
        (space.full, "full", 95.0, 95.0),
    ]
    shown = written(space, rows)
    members = shown.front(space)
    assert [m.allocation for m in members] == [space.smallest, second, space.full]
    assert [m.score for m in members] == [50, 70, 95]
    assert {m.samples for m in members} == {EVALUATION}
    row = front_rows(shown, space)[1]
    assert row["digest"] == second.digest
    assert row["allocation"] == second.to_json()
    assert row["ci95"][0] < 70 < row["ci95"][1]


def test_what_differs_by_less_than_its_samples_tell_is_equal(
    space: ModelSpace,
) -> None:
    first, second, third = widened(space)[:3]
    rows = [
        (first, "proposal", 80.0, 79.0),
        (second, "proposal", 81.0, 79.0),
        (third, "proposal", 90.0, 89.0),
        (space.full, "full", 95.0, 95.0),
    ]
    shown = written(space, rows)
    members = shown.front(space)
    (only,) = indistinguishable(shown, members, second.digest)
    assert (only["digest"], only["difference"]) == (first.digest, 0)
    assert (only["samples"], only["ci95"]) == (EVALUATION, [0, 0])
    assert indistinguishable(shown, members, third.digest) == []
    assert indistinguishable(shown, members, "never measured") == []


def test_a_corrected_difference_is_less_sure(space: ModelSpace) -> None:
    first, second = widened(space)[:2]
    rows = [
        (first, "proposal", 80.0, None),
        (second, "proposal", 80.2, 79.9),
        (space.full, "full", 95.0, 95.0),
    ]
    shown = written(space, rows)
    (only,) = indistinguishable(shown, shown.front(space), second.digest)
    assert only["samples"] == CORRECTED
    assert only["ci95"][0] < only["difference"] < only["ci95"][1]
    assert shown.difference(first.digest, second.digest)
    without = written(space, rows, samples=False)
    assert without.difference(first.digest, second.digest) is None


class Flattering(FakeBench):
    """Proposals score 4 more on the samples of the search set than on others."""

    def score(self, allocation: Allocation, some: Any) -> Any:
        told = super().score(allocation, some)
        widths = {choice.bits for _, choice in allocation}
        flattered = len(widths) > 1 and some[0].id.startswith("s")
        mean = told.mean + 4 * flattered
        return type(told)(mean, tuple(mean + SIGNS[at % 2] for at in range(len(some))))


def test_a_search_shows_a_front_that_its_own_set_does_not_flatter(
    toy: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "strata", lambda *_: ())
    asked = asked_for(finalize=False, rungs=False)
    search = search_of(toy, f"{tmp_path}/studies.log", asked, Flattering())
    baselines(search)
    fitting = [a for a in widened(search.setup.space) if search.setup.space.fits(a)]
    for allocation in fitting[:8]:
        search.measure(allocation, "proposal")
    found = conclude(search)
    plain = FakeBench()
    for member in found.front:
        true = plain.scored(member.allocation)
        assert member.score == pytest.approx(true, abs=1e-2), member.samples
    told = {row["samples"] for row in found.to_json()["front"]}
    # five finalists and the baselines are measured, the smaller ones are not
    assert told == {EVALUATION, CORRECTED}


def test_what_was_scored_on_a_part_is_completed_by_full_precision(
    toy: ModelSpec, tmp_path: Path
) -> None:
    url = f"{tmp_path}/studies.log"
    asked = asked_for(rungs=False)
    search = search_of(toy, url, asked, Uneven(), evaluated=1_000)
    space = search.setup.space
    baselines(search)
    uniform = [a for a in space.uniform if space.fits(a)]
    part = search.evaluate(uniform[0], size=250)
    # nothing says how a part differs from the whole yet
    shown = Shown.of(search.journal, space)
    assert shown.samples(uniform[0].digest) == CORRECTED
    search.evaluate(space.full)
    shown = Shown.of(search.journal, space)
    assert shown.samples(uniform[0].digest) == EVALUATION
    assert shown.samples(uniform[1].digest) == CORRECTED
    # the same samples are easy for both: the difference is known exactly
    plain = FakeBench()
    assert part.mean != pytest.approx(plain.scored(uniform[0]) + 0.5, abs=1e-3)
    wanted = shown.score(space.full.digest) + plain.scored(uniform[0]) - 90
    assert shown.score(uniform[0].digest) == pytest.approx(wanted)
    apart = shown.difference(uniform[0].digest, space.full.digest)
    assert apart is not None
    assert apart.ci95 == pytest.approx([wanted - shown.score(space.full.digest)] * 2)
    # and what was not scored there follows from it
    other = shown.score(uniform[1].digest)
    assert other == pytest.approx(plain.scored(uniform[1]) + 0.5, abs=0.1)


class Uneven(FakeBench):
    """Half of the samples of the evaluation set score 1 more, by chance."""

    def score(self, allocation: Allocation, some: Any) -> Any:
        told = super().score(allocation, some)
        easy = np.random.default_rng(1).random(1_000) < 0.5
        values = tuple(told.mean + easy[int(each.id[1:])] for each in some)
        return type(told)(sum(values) / len(values), values)
