from __future__ import annotations

import numpy as np
import pytest

from evals.interval import DRAWS, Draws, bootstrap, surplus


def test_values_that_are_all_equal_leave_no_doubt() -> None:
    found = bootstrap([70.0] * 5)
    assert (found.mean, found.ci95) == (70.0, [70.0, 70.0])


def test_a_single_value_is_its_own_interval() -> None:
    assert bootstrap([3.0]).ci95 == [3.0, 3.0]


def test_two_values_are_both_within_reach_of_the_interval() -> None:
    # a draw of two is 0, 0.5 or 1 on average, a quarter, a half, a quarter of the time
    found = bootstrap([0.0, 1.0])
    assert (found.mean, found.ci95) == (0.5, [0.0, 1.0])


def test_half_right_of_a_hundred_is_known_to_ten_points() -> None:
    found = bootstrap([0.0, 100.0] * 50)
    # standard error 100 x sqrt(0.25 / 100) = 5 points, and 1.96 of them
    assert found.mean == 50
    assert found.low == pytest.approx(50 - 9.8, abs=1.5)
    assert found.high == pytest.approx(50 + 9.8, abs=1.5)


def test_four_times_the_samples_halve_the_interval() -> None:
    few, many = bootstrap([0.0, 1.0] * 50), bootstrap([0.0, 1.0] * 200)
    ratio = (few.high - few.low) / (many.high - many.low)
    assert ratio == pytest.approx(2, rel=0.1)


def test_a_constant_added_moves_the_interval_and_nothing_else() -> None:
    values = [1.0, 2.0, 4.0, 8.0]
    plain, moved = bootstrap(values, 3), bootstrap([v + 16 for v in values], 3)
    assert moved.mean == plain.mean + 16
    assert moved.ci95 == pytest.approx([plain.low + 16, plain.high + 16])


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not() -> None:
    values = np.random.default_rng(0).normal(size=30).tolist()
    assert bootstrap(values, 1) == bootstrap(values, 1)
    assert bootstrap(values, 1) != bootstrap(values, 2)


def test_differences_on_the_same_samples_are_surer_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=50)
    better = base + 0.5 + 0.01 * rng.normal(size=50)
    # the two intervals overlap, but every sample gained about a half
    assert bootstrap(base.tolist()).high > bootstrap(better.tolist()).low
    paired = bootstrap((better - base).tolist())
    assert 0.49 < paired.low < paired.high < 0.51


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(30, 25))
    found = [bootstrap(table.tolist(), seed) for seed, table in enumerate(tables)]
    covered = sum(each.low <= 0 <= each.high for each in found)
    # 28.5 of 30 are expected, give or take 2 x sqrt(30 x 0.95 x 0.05) = 2.4; at 25
    # samples a percentile interval covers a little less than it says
    assert covered >= 25


def rows_of_equals(rng: np.random.Generator, rows: int, samples: int) -> np.ndarray:
    """Scores of 0 and 100, right on 80 %, alike on half of what they vary."""
    latent = rng.normal(size=(rows, samples)) + rng.normal(size=samples)
    # 0.8416 is the 80 % quantile of a normal, whose spread is sqrt(2) here
    return 100.0 * (latent < 0.8416 * 2**0.5)


def test_all_rows_see_the_same_draws() -> None:
    draws = Draws.of([[0, 1, 2, 3], [10, 11, 12, 13], [0, -1, -2, -3]])
    assert draws.errors.shape == (DRAWS, 3)
    assert draws.drawn[:, 1] == pytest.approx(draws.drawn[:, 0] + 10)
    assert draws.drawn[:, 2] == pytest.approx(-draws.drawn[:, 0])
    assert set(np.round(4 * draws.drawn[:, 0], 9)) <= set(range(13))


def test_a_task_of_few_samples_is_drawn_from_as_often_as_it_has() -> None:
    # the two tasks are without spread, so no draw can differ
    draws = Draws.of([[1.0] * 3 + [5.0] * 2], strata=(3, 2))
    assert draws.errors == pytest.approx(0, abs=1e-12)
    assert draws.means == pytest.approx([2.6])
    assert Draws.of([[1.0] * 3 + [5.0] * 2]).errors.max() > 1


def test_equal_scores_are_equal_in_whatever_order_samples_stand() -> None:
    values = [0.1, 0.2, 0.3, 1e9, 33.3]
    first, second = Draws.of([values, values[::-1]]).means
    assert first == second


def test_an_interval_reaches_further_down_where_more_could_have_been_chosen() -> None:
    rows = rows_of_equals(np.random.default_rng(1), 6, 400)
    draws = Draws.of(rows)
    at = int(draws.means.argmax())
    alone, chosen = draws.score(at), draws.score(at, range(6))
    assert chosen.mean == alone.mean == rows[at].mean()
    assert chosen.low < alone.low
    assert chosen.high == alone.high
    assert alone.ci95 == pytest.approx(bootstrap(rows[at].tolist()).ci95)


def test_a_difference_reaches_down_by_the_choice_and_up_by_that_of_the_rival() -> None:
    draws = Draws.of(rows_of_equals(np.random.default_rng(2), 5, 400))
    plain = draws.difference(0, 1)
    chosen = draws.difference(0, 1, among=[0, 2, 3])
    rival = draws.difference(0, 1, rivals=[1, 4])
    assert chosen.low < plain.low
    assert chosen.high == plain.high
    assert rival.low == plain.low
    assert rival.high > plain.high
    assert draws.difference(1, 1, among=[0, 2]).ci95 == [0, 0]


def test_what_is_far_behind_could_not_have_been_chosen() -> None:
    # 0 and 1 differ on single samples, 2 is wrong on half of them
    rows = np.full((3, 200), 100.0)
    rows[0, :5], rows[1, 5:10], rows[2, :100] = 0, 0, 0
    assert Draws.of(rows).winners([0, 1, 2]) == {0, 1}
    assert Draws.of(rows).winners([0, 2]) == {0}
    assert Draws.of(rows).winners([2]) == {2}


def test_the_best_of_equals_is_seldom_taken_to_be_better_than_it_is() -> None:
    rng, above, short = np.random.default_rng(3), {True: 0, False: 0}, 0
    sets = [rows_of_equals(rng, 6, 100) for _ in range(200)]
    draws = Draws.of(np.concatenate(sets))
    for first in range(0, len(draws.means), 6):
        # the last one is the rival, the others are chosen from
        others, rival = range(first, first + 5), first + 5
        at = max(others, key=draws.means.__getitem__)
        for knows in above:
            among = others if knows else ()
            above[knows] += draws.difference(at, rival, among).low > 0
        short += draws.score(at, others).low > 80
    # 2.5 % of 200 are 5, and 3 standard errors of a count of 5 are 7 more; without
    # knowing of the choice it is one in ten
    assert above[True] <= 12 < above[False]
    assert short <= 12


def test_a_share_moves_with_both_scores() -> None:
    rng = np.random.default_rng(4)
    whole = 100.0 * (rng.random(1_000) < 0.9)
    half = Draws.of(np.array([whole / 2, whole])).share(0, 1)
    # half of every sample is half of the score in each draw
    assert half.ci95 == pytest.approx([0.5, 0.5])
    one = Draws.of(np.array([np.full(1_000, 90.0), whole])).share(0, 1)
    # a standard error of sqrt(0.9 x 0.1 / 1000) of 0.9: 0.0105 of the share
    assert one.mean == pytest.approx(90 / whole.mean())
    assert one.high - one.low == pytest.approx(2 * 1.96 * 0.0105, rel=0.15)


def test_a_bound_counts_one_lost_sample_and_its_spread() -> None:
    # nothing lost of 99 samples: with the lost one a mean of -1 beyond the same score,
    # a variance of 1 % x 99 % x 100 / 99 of 100 squared, a standard error of 1
    assert surplus([100.0] * 99, [100.0] * 99, 1.0, 0.5) == pytest.approx(-1)
    assert surplus([100.0] * 99, [100.0] * 99, 1.0, 0.95) == pytest.approx(
        -2.645, abs=1e-3
    )
    # a larger set needs less
    asked = surplus([100.0] * 99, [100.0] * 99, 1.0, 0.95, size=9_999)
    assert asked == pytest.approx(-0.02645, abs=1e-5)


def test_a_bound_takes_the_spread_within_tasks_alone() -> None:
    values = [1.0] * 500 + [9.0] * 500
    whole = [1.0] * 500 + [9.0] * 500
    apart = surplus(values, whole, 0.5, 0.95, strata=(500, 500))
    together = surplus(values, whole, 0.5, 0.95)
    # 2.5 are left beyond a half; a spread of 2 between the tasks is no doubt, or one of
    # 1.645 x 2 / sqrt(1000) = 0.1; and a sample that loses 7 takes 0.007 x 2.645
    assert apart == pytest.approx(2.5 - 0.0185, abs=1e-3)
    assert together == pytest.approx(apart - 0.1, abs=0.01)


@pytest.mark.parametrize("samples", [100, 500])
def test_a_share_just_kept_is_seldom_taken_to_be_more(samples: int) -> None:
    rng, passed = np.random.default_rng(5), 0
    for _ in range(1_000):
        # full precision is right on 90 %, of which 5 % are lost
        whole = rng.random(samples) < 0.9
        own = whole & (rng.random(samples) < 0.95)
        values = (100.0 * own).tolist(), (100.0 * whole).tolist()
        passed += surplus(*values, 0.95, 0.95) >= 0
    # 50 are expected at most, give or take 3 x sqrt(1000 x 0.05 x 0.95) = 21
    assert passed <= 71
