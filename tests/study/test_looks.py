from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.study.looks import DIVERGENCE, FEWEST, FEWEST_CONTROLS, SCORE, Looks
from allocator.study.proposed import Proposed
from tests.searches import (
    THREE,
    TWO,
    divergence,
    drawn,
    judged,
    looked_at,
    score,
)

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec


def test_a_divergence_that_predicts_goes_on_being_looked_at(toy: ModelSpec) -> None:
    looks = Looks(TWO)
    looked_at(looks, drawn(toy, 20))
    assert looks.trusts()
    assert looks.rungs() == TWO
    report = looks.report(DIVERGENCE, 128)
    assert (report.count, report.controls) == (20, 10)
    assert report.spearman is not None
    assert report.spearman > 0.9


def test_a_divergence_that_does_not_predict_gives_way_to_scores(toy: ModelSpec) -> None:
    looks = Looks(TWO)
    looked_at(looks, drawn(toy, 20), sign=-1)
    report = looks.report(DIVERGENCE, 128)
    assert report.spearman is not None
    assert report.spearman < -0.6
    assert not looks.trusts()
    assert looks.rungs() == ((SCORE, 32, 6), (SCORE, 128, 1))
    everything = list(looks.proposed)
    # one below the fewest pairs that say anything, then too few of them drawn
    looks.proposed = everything[: FEWEST - 1]
    assert looks.trusts()
    looks.proposed = everything[11 - FEWEST :]
    assert not looks.trusts()
    looks.proposed = everything[11 - FEWEST_CONTROLS :]
    assert looks.trusts()


def test_baselines_say_nothing_for_a_divergence(toy: ModelSpec) -> None:
    looks = Looks(TWO)
    found = drawn(toy, 40)
    looked_at(looks, found, sign=-1)
    looks.proposed = looks.proposed[10:30]
    # all the others agree as baselines do: nobody asks them
    for each in found[:10] + found[30:]:
        looks.learn(each, (DIVERGENCE, 128), divergence(each))
    assert not looks.trusts()


def test_what_is_within_other_budgets_is_not_compared(toy: ModelSpec) -> None:
    looks, found = Looks(TWO), drawn(toy, 20)
    for at, each in enumerate(found):
        looks.learn(each, (DIVERGENCE, 128), 0.1 * (at // 2 + 1) + 0.01 * (at % 2))
    # over budgets the look ranks all, within each it is the wrong way round
    looks.proposed = [
        Proposed(each, ("front", at // 2), True, 80.0 - at // 2 + 0.1 * (at % 2))
        for at, each in enumerate(found)
    ]
    report = looks.report(DIVERGENCE, 128)
    assert report.spearman is not None
    assert report.spearman < 0


def test_a_score_that_a_look_was_part_of_is_taken_without_it(toy: ModelSpec) -> None:
    looks, found = Looks(THREE), drawn(toy, 6)
    looks.total = 1000
    # what the 256 samples say is all there is: the other 744 say the opposite
    parts = [70.0, 71.0, 72.0, 73.0, 74.0, 75.0]
    others = [81.0, 80.9, 80.8, 80.7, 80.6, 80.5]
    for each, part in zip(found, parts, strict=True):
        looks.learn(each, (SCORE, 256), part)
    wholes = [
        (256 * part + 744 * other) / 1000
        for part, other in zip(parts, others, strict=True)
    ]
    assert wholes == sorted(wholes)
    judged(looks, found, wholes)
    report = looks.report(SCORE, 256)
    assert report.spearman is not None
    assert report.spearman < -0.9


def test_equal_scores_say_nothing_about_a_divergence(toy: ModelSpec) -> None:
    looks = Looks(TWO)
    found = drawn(toy, 20)
    looked_at(looks, found, sign=-1)
    judged(looks, found, [70.0] * 20)
    assert looks.trusts()


def test_a_ladder_without_rungs_trusts_and_reports_nothing(toy: ModelSpec) -> None:
    looks = Looks(())
    measured = [(each, score(each)) for each in drawn(toy, 20)]
    judged(looks, [a for a, _ in measured], [value for _, value in measured])
    assert looks.trusts()
    assert looks.reports() == ()
    assert looks.estimates(measured) == ()


def test_reports_are_of_the_rungs_that_saw_something_measured(toy: ModelSpec) -> None:
    looks, found = Looks(THREE), drawn(toy, 6)
    looks.total = 1000
    for each in found:
        looks.learn(each, (DIVERGENCE, 32), divergence(each))
    for each in found[:2]:
        looks.learn(each, (SCORE, 256), score(each))
    judged(looks, found[:4], [score(each) for each in found[:4]])
    reports = looks.reports()
    assert [(r.kind, r.samples, r.count) for r in reports] == [
        (DIVERGENCE, 32, 4),
        (SCORE, 256, 2),
    ]
    # of two or four there is no interval worth the name, or a very wide one
    assert [r.ci95 is None for r in reports] == [False, True]


def test_estimates_lie_on_the_line_through_what_was_measured(toy: ModelSpec) -> None:
    looks, found = Looks(TWO), drawn(toy, 5)
    values = (0.1, 0.2, 0.4, 0.3, 0.25)
    for each, look in zip(found, values, strict=True):
        looks.learn(each, (DIVERGENCE, 32), look)
    looks.learn(found[4], (DIVERGENCE, 128), 0.3)
    # 90 - 100 x divergence on 32 samples; nothing measured was seen on 128
    measured = list(zip(found[:3], (80.0, 70.0, 50.0), strict=True))
    estimates = {a.digest: value for a, value in looks.estimates(measured)}
    assert estimates[found[3].digest] == pytest.approx(60)
    # without a line the score is taken to fall from the best one to nothing: 80 (1 - d)
    assert estimates[found[4].digest] == pytest.approx(80 * (1 - 0.3))


def test_an_estimate_follows_the_largest_look(toy: ModelSpec) -> None:
    looks, found = Looks(TWO), drawn(toy, 4)
    for each, few, many in zip(
        found[:3], (0.1, 0.2, 0.4), (0.3, 0.2, 0.1), strict=True
    ):
        looks.learn(each, (DIVERGENCE, 32), few)
        looks.learn(each, (DIVERGENCE, 128), many)
    looks.learn(found[3], (DIVERGENCE, 32), 0.9)
    looks.learn(found[3], (DIVERGENCE, 128), 0.4)
    # on 128 samples: 50 at 0.3, 60 at 0.2, 70 at 0.1
    measured = list(zip(found[:3], (50.0, 60.0, 70.0), strict=True))
    estimates = {a.digest: value for a, value in looks.estimates(measured)}
    assert estimates[found[3].digest] == pytest.approx(40)


def test_a_higher_divergence_never_suggests_a_higher_score(toy: ModelSpec) -> None:
    looks, found = Looks(TWO), drawn(toy, 4)
    for each, look in zip(found, (0.1, 0.2, 0.3, 0.6), strict=True):
        looks.learn(each, (DIVERGENCE, 32), look)
    measured = list(zip(found[:3], (50.0, 60.0, 70.0), strict=True))
    estimates = {a.digest: value for a, value in looks.estimates(measured)}
    # their mean, by a line that does not fall
    assert estimates[found[3].digest] == pytest.approx(60)


def test_looks_that_a_study_keeps_are_read_without_a_model(toy: ModelSpec) -> None:
    one, other = drawn(toy, 2)
    looks = Looks.recalled([("5", one, (DIVERGENCE, 32), 0.5)])
    assert looks.seen(one) == {(DIVERGENCE, 32): 0.5}
    assert looks.seen(other) == {}
