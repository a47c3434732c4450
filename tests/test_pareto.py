from __future__ import annotations

from random import Random

import pytest

from allocator.pareto import front

Points = list[tuple[float, float]]


def quadratic_front(points: Points) -> list[int]:
    """By the definition: no other point dominates it, no earlier one equals it."""

    def beaten(i: int) -> bool:
        bpw, score = points[i]
        return any(
            (x <= bpw and y >= score and (x, y) != (bpw, score))
            or ((x, y) == (bpw, score) and j < i)
            for j, (x, y) in enumerate(points)
        )

    kept = [i for i in range(len(points)) if not beaten(i)]
    return sorted(kept, key=lambda i: points[i][0])


@pytest.mark.parametrize("seed", range(40))
def test_it_equals_the_quadratic_front(seed: int) -> None:
    random = Random(seed)
    # few values, so that many points tie in one coordinate or both
    points: Points = [
        (float(random.randint(2, 9)), float(random.randint(0, 9)))
        for _ in range(random.randint(1, 60))
    ]
    assert front(points) == quadratic_front(points)


def test_no_points_have_no_front() -> None:
    assert front([]) == []


def test_of_equal_points_the_first_stays() -> None:
    assert front([(4.0, 70.0), (4.0, 70.0)]) == [0]


def test_at_the_same_size_only_the_best_score_stays() -> None:
    assert front([(4.0, 70.0), (4.0, 72.0), (4.0, 71.0)]) == [1]


def test_at_the_same_score_only_the_smallest_stays() -> None:
    assert front([(4.0, 70.0), (3.0, 70.0), (5.0, 70.0)]) == [1]


def test_scores_below_zero_are_as_good_as_any() -> None:
    assert front([(3.0, -2.0), (4.0, -1.0), (5.0, -3.0)]) == [0, 1]
