"""A look that is no finite number is the worst look, and nothing is fitted to it."""

from __future__ import annotations

import math

import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.study.looks import DIVERGENCE, SCORE, Looks
from allocator.study.proposed import Proposed

# divergence and score of allocations by their width: scores fall by 100 a unit
SIZES = {DIVERGENCE: 128, SCORE: 256}
MEASURED = {8: (0.1, 80.0), 6: (0.2, 70.0), 4: (0.3, 60.0), 3: (0.4, 50.0)}


def uniform(bits: int) -> Allocation:
    return Allocation.of(("a", "b"), dict.fromkeys(("a", "b"), Choice(bits, "gptq")))


def looked(
    kind: str, value: float | None
) -> tuple[Looks, list[tuple[Allocation, float]]]:
    """Looks at four that were measured, and one of some value at the fifth."""
    looks = Looks()
    for bits, (divergence, score) in MEASURED.items():
        seen = divergence if kind == DIVERGENCE else score
        looks.learn(uniform(bits), (kind, SIZES[kind]), seen)
    looks.learn(uniform(2), (kind, SIZES[kind]), value)
    return looks, [(uniform(bits), score) for bits, (_, score) in MEASURED.items()]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("kind", [DIVERGENCE, SCORE])
def test_it_is_the_worst_and_left_out_of_lines_and_correlations(
    kind: str, value: float | None
) -> None:
    looks, measured = looked(kind, value)
    sign = -1 if kind == DIVERGENCE else 1
    seen = looks.seen(uniform(2))[kind, SIZES[kind]]
    assert all(sign * seen < sign * each for each in (-1e300, 0.0, 1e300))
    # measured after all, by luck with the best score: nothing learns from the look
    lucky = [*measured, (uniform(2), 90.0)]
    place = ("budget", 4.0)
    looks.proposed = [Proposed(a, place, drawn=True, score=s) for a, s in lucky]
    report = looks.report(kind, SIZES[kind])
    assert report.count == 4
    assert report.spearman is not None
    assert report.spearman > 0.9
    slope, offset = looks._line((kind, SIZES[kind]), lucky)
    expected = (-100.0, 90.0) if kind == DIVERGENCE else (1.0, 0.0)
    assert (slope, offset) == pytest.approx(expected)
    assert {a.digest for a, _ in looks.estimates(measured)} == {
        uniform(bits).digest for bits in MEASURED
    }
    assert [a.digest for a in looks.overflowed] == [uniform(2).digest]


def test_it_is_told_as_nothing_among_the_attributes_of_a_trial() -> None:
    looks, _ = looked(DIVERGENCE, math.nan)
    assert looks.of(uniform(2)) == {"divergence on 128 samples": None}
    assert looks.of(uniform(3)) == {"divergence on 128 samples": 0.4}
