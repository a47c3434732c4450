from __future__ import annotations

from random import Random

import pytest

from allocator.space.fronts import front, knee

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


def test_the_knee_is_where_the_front_bends() -> None:
    # above the line of its ends, both axes scaled to 1: 0, 0.7, 0.55, 0.3, 0
    points = [(2.0, 0.0), (4.0, 90.0), (6.0, 95.0), (9.0, 100.0), (12.0, 100.5)]
    assert knee(points) == 1


@pytest.mark.parametrize("seed", range(20))
def test_the_knee_is_furthest_from_the_line_of_the_ends(seed: int) -> None:
    random = Random(seed)
    sizes = sorted(random.uniform(2, 16) for _ in range(9))
    scores = sorted(random.uniform(0, 100) for _ in range(9))
    points = list(zip(sizes, scores, strict=True))
    wide, high = sizes[-1] - sizes[0], scores[-1] - scores[0]

    def distance(point: tuple[float, float]) -> float:
        """From the line through (0, 0) and (1, 1), below 0 under it."""
        x, y = (point[0] - sizes[0]) / wide, (point[1] - scores[0]) / high
        return (y - x) / 2**0.5

    found = points[knee(points)]
    assert distance(found) == pytest.approx(max(map(distance, points)))


def test_the_knee_does_not_depend_on_the_units() -> None:
    points = [(2.0, 10.0), (3.0, 70.0), (4.5, 82.0), (8.0, 90.0)]
    scaled = [(8e9 * size, score / 100) for size, score in points]
    assert knee(points) == knee(scaled) == 1


def test_a_front_of_one_or_two_has_its_knee_at_the_best() -> None:
    assert knee([(4.0, 70.0)]) == 0
    assert knee([(3.0, 60.0), (4.0, 70.0)]) == 1


def test_a_straight_front_has_its_knee_anywhere_on_it() -> None:
    assert knee([(2.0, 10.0), (3.0, 20.0), (4.0, 30.0)]) in {0, 1, 2}
