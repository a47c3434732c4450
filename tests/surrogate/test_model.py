from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from allocator.core.errors import SpecError
from surrogate.features import Features
from surrogate.model import MonotoneTrees


def table(rows: int, columns: int = 6, seed: int = 0) -> Features:
    bits = np.random.default_rng(seed).choice([2, 3, 4, 5, 6, 8, 16], (rows, columns))
    names = tuple(f"g{column}" for column in range(columns))
    return Features(names, np.log2(bits), (1,) * columns)


def planted(features: Features) -> np.ndarray:
    """Score that needs bits in the first column, less so in the second."""
    return (
        100 - 40 * np.exp2(-features.matrix[:, 0]) - 8 * np.exp2(-features.matrix[:, 1])
    )


def test_a_planted_signal_ranks_unseen_rows() -> None:
    seen, unseen = table(60), table(200, seed=1)
    mean, _ = MonotoneTrees().fit(seen, planted(seen)).predict(unseen)
    assert np.corrcoef(mean, planted(unseen))[0, 1] > 0.95


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_more_bits_are_never_predicted_to_hurt(higher_is_better: bool) -> None:
    rng = np.random.default_rng(3)
    seen = table(40)
    # noise alone: nothing in the scores says that bits help
    model = MonotoneTrees(n_members=8).fit(seen, rng.normal(size=40), higher_is_better)
    low = table(300, seed=4)
    grown = low.matrix + rng.choice([0.0, 1.0], low.matrix.shape)
    before, _ = model.predict(low)
    after, _ = model.predict(replace(low, matrix=grown))
    gain = (after - before) * (1 if higher_is_better else -1)
    assert gain.min() >= -1e-6
    assert gain.max() > 0


def test_more_damage_is_never_predicted_to_help() -> None:
    rng = np.random.default_rng(5)
    seen = Features(("damage",), rng.random((40, 1)), (-1,))
    model = MonotoneTrees(n_members=8).fit(seen, rng.normal(size=40))
    mean, _ = model.predict(replace(seen, matrix=np.linspace(0, 1, 50)[:, None]))
    assert np.diff(mean).max() <= 1e-6


def test_equal_seeds_agree_and_other_seeds_do_not() -> None:
    seen, unseen = table(40), table(50, seed=1)
    scores = planted(seen)

    def predicted(seed: int) -> np.ndarray:
        return np.stack(MonotoneTrees(seed=seed).fit(seen, scores).predict(unseen))

    np.testing.assert_array_equal(predicted(1), predicted(1))
    assert np.abs(predicted(1) - predicted(2)).max() > 0


def test_spread_shrinks_with_more_measured_rows() -> None:
    unseen = table(100, seed=1)

    def spread(rows: int) -> float:
        seen = table(rows)
        return float(MonotoneTrees().fit(seen, planted(seen)).predict(unseen)[1].mean())

    assert spread(10) > 2 * spread(100) > 0


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_unit_and_direction_of_the_scores_do_not_matter(unit: float) -> None:
    seen = table(60)
    scores = planted(seen)
    mean, spread = MonotoneTrees().fit(seen, scores).predict(seen)
    model = MonotoneTrees().fit(seen, unit * (200 - scores), higher_is_better=False)
    mean_loss, spread_loss = model.predict(seen)
    np.testing.assert_allclose(mean_loss, unit * (200 - mean), rtol=1e-4)
    np.testing.assert_allclose(spread_loss, unit * spread, rtol=1e-2, atol=1e-3 * unit)
    np.testing.assert_allclose(mean, scores, atol=1.5)


def test_equal_scores_are_predicted_without_spread() -> None:
    seen = table(10)
    mean, spread = MonotoneTrees(n_members=3).fit(seen, [7.0] * 10).predict(seen)
    assert mean.tolist() == [7.0] * 10
    assert spread.tolist() == [0.0] * 10


def test_a_single_row_can_be_fitted() -> None:
    mean, spread = MonotoneTrees(n_members=2).fit(table(1), [3.5]).predict(table(4))
    assert mean.tolist() == [3.5] * 4
    assert spread.tolist() == [0.0] * 4


def test_no_rows_are_predicted_as_nothing() -> None:
    model = MonotoneTrees(n_members=2).fit(table(5), range(5))
    assert [len(part) for part in model.predict(table(0))] == [0, 0]


@pytest.mark.parametrize(
    ("rows", "scores", "message"),
    [
        (0, [], "at least one"),
        (3, [1.0, 2.0], "as many scores"),
        (2, [1.0, float("nan")], "finite"),
    ],
)
def test_scores_that_cannot_be_fitted_are_refused(
    rows: int, scores: list[float], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        MonotoneTrees().fit(table(rows), scores)


def test_prediction_needs_a_fit_and_its_columns() -> None:
    with pytest.raises(SpecError, match="needs a fit"):
        MonotoneTrees().predict(table(2))
    model = MonotoneTrees(n_members=2).fit(table(5), range(5))
    with pytest.raises(SpecError, match="fitted on columns"):
        model.predict(table(2, columns=4))


@pytest.mark.bench
def test_bench_fit_and_predict() -> None:
    seen, proposals = table(60, 40), table(2000, 40, seed=1)
    MonotoneTrees(n_members=1).fit(seen, planted(seen))
    start = time.perf_counter()
    model = MonotoneTrees().fit(seen, planted(seen))
    fitted = time.perf_counter()
    model.predict(proposals)
    end = time.perf_counter()
    print(f"\nfit {fitted - start:.3f} s, predict 2000 {end - fitted:.3f} s")
