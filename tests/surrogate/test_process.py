from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from allocator.core.errors import SpecError
from surrogate.features import Features
from surrogate.process import GaussianProcess


def table(matrix: np.ndarray) -> Features:
    names = tuple(f"g{column}" for column in range(matrix.shape[1]))
    return Features(names, matrix, (1,) * matrix.shape[1])


def drawn(rows: int, columns: int = 3, seed: int = 0) -> Features:
    bits = np.random.default_rng(seed).choice([2, 3, 4, 5, 6, 8, 16], (rows, columns))
    return table(np.log2(bits))


def planted(features: Features) -> np.ndarray:
    """Score that needs bits in the first column, less so in the second."""
    noise = 4.0 ** -np.exp2(features.matrix)
    return 100 - 900 * noise[:, 0] - 200 * noise[:, 1]


def covariance(
    model: GaussianProcess, one: np.ndarray, other: np.ndarray, draw: int
) -> np.ndarray:
    """Squared-exponential kernel, an element at a time."""
    return np.array(
        [
            [
                model.levels_[draw]
                * np.exp(-0.5 * sum(((a - b) / model.lengths_[draw]) ** 2))
                for b in other
            ]
            for a in one
        ]
    )


def test_the_prediction_is_the_textbook_s_average_over_settings() -> None:
    seen, unseen = drawn(9), drawn(5, seed=1)
    scores = planted(seen)
    model = GaussianProcess(draws=6, seed=3).fit(seen, scores)
    target = (scores - scores.mean()) / scores.std()
    means, variances, weights = [], [], []
    for draw in range(6):
        noisy = covariance(model, seen.matrix, seen.matrix, draw)
        noisy += model.noises_[draw] * np.eye(9)
        cross = covariance(model, unseen.matrix, seen.matrix, draw)
        means.append(cross @ np.linalg.inv(noisy) @ target)
        explained = np.diag(cross @ np.linalg.inv(noisy) @ cross.T)
        variances.append(model.levels_[draw] - explained)
        weights.append(multivariate_normal(cov=noisy).pdf(target))
    share = np.array(weights) / sum(weights)
    # law of total variance
    mean = share @ means
    variance = share @ np.array(variances) + share @ (np.array(means) - mean) ** 2
    predicted, spread = model.predict(unseen)
    np.testing.assert_allclose(predicted, scores.mean() + scores.std() * mean)
    np.testing.assert_allclose(spread, scores.std() * np.sqrt(variance))


def test_a_planted_signal_ranks_unseen_rows() -> None:
    seen, unseen = drawn(40), drawn(200, seed=1)
    mean, _ = GaussianProcess().fit(seen, planted(seen)).predict(unseen)
    assert np.corrcoef(mean, planted(unseen))[0, 1] > 0.95


def test_it_is_surest_where_it_has_seen() -> None:
    seen = table(np.array([[1.0], [2.0]]))
    far = table(np.array([[1.0], [1.5], [4.0]]))
    _, spread = GaussianProcess().fit(seen, [0.0, 1.0]).predict(far)
    assert spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_unit_of_the_scores_does_not_matter(unit: float) -> None:
    seen, unseen = drawn(20), drawn(30, seed=1)
    scores = planted(seen)
    mean, spread = GaussianProcess().fit(seen, scores).predict(unseen)
    other, wide = GaussianProcess().fit(seen, unit * (scores + 7)).predict(unseen)
    np.testing.assert_allclose(other, unit * (mean + 7), rtol=1e-6)
    np.testing.assert_allclose(wide, unit * spread, rtol=1e-5)


def test_equal_seeds_agree_and_other_seeds_do_not() -> None:
    seen, unseen = drawn(20), drawn(30, seed=1)

    def predicted(seed: int) -> np.ndarray:
        model = GaussianProcess(seed=seed).fit(seen, planted(seen))
        return np.stack(model.predict(unseen))

    np.testing.assert_array_equal(predicted(1), predicted(1))
    assert np.abs(predicted(1) - predicted(2)).max() > 0


def test_equal_scores_a_single_row_and_no_rows_to_predict() -> None:
    same = GaussianProcess().fit(drawn(6), [7.0] * 6)
    np.testing.assert_allclose(same.predict(drawn(4, seed=1))[0], 7.0)
    one = GaussianProcess().fit(drawn(1), [3.5])
    np.testing.assert_allclose(one.predict(drawn(4, seed=1))[0], 3.5)
    assert [len(part) for part in one.predict(drawn(0))] == [0, 0]


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
        GaussianProcess().fit(drawn(rows), scores)


def test_prediction_needs_a_fit_and_its_columns() -> None:
    with pytest.raises(SpecError, match="needs a fit"):
        GaussianProcess().predict(drawn(2))
    model = GaussianProcess(draws=2).fit(drawn(5), range(5))
    with pytest.raises(SpecError, match="fitted on 3 columns, got 4"):
        model.predict(drawn(2, columns=4))
