from __future__ import annotations

import numpy as np
import pytest
import shap

from allocator.core.errors import SpecError
from surrogate import trees
from surrogate.measures import FULL, Data, Effort, measure

WIDTHS = [2, 3, 4, 5, 6, 8]
SETS = [(0,), (1,), (2,), (0, 1), (1, 2)]
ONE = Effort(bootstraps=1, impurity_bootstraps=0, beside=True)


def planted(rows: int = 30) -> Data:
    rng = np.random.default_rng(0)
    bits = np.unique(rng.choice(WIDTHS, (rows, 3)).astype(float), axis=0)
    scores = 3 * bits[:, 0] - bits[:, 1]
    return Data(bits, (scores - scores.mean()) / scores.std(), SETS)


def test_impurity_and_shap_of_sets_are_those_of_their_columns() -> None:
    data = planted()
    impurity, _, size = measure(data, ONE, 0, lambda: None).three
    forest = trees.forest(data.table, data.target, FULL.trees, 0)
    parts = forest.feature_importances_
    np.testing.assert_allclose(impurity, [sum(parts[list(s)]) for s in SETS])
    # column by column and row by row
    values = shap.TreeExplainer(forest).shap_values(data.table)
    for at, members in enumerate(SETS):
        rows = [abs(sum(row[column] for column in members)) for row in values]
        assert size[at] == pytest.approx(np.mean(rows))
    # opposite values partly cancel: a set is not the sum of its columns' sizes
    assert size[3] < 0.99 * (size[0] + size[1])


def test_joint_permutation_of_all_columns_is_the_worst() -> None:
    data = planted()
    _, increase, _ = measure(data, ONE, 0, lambda: None).three
    assert increase[3] > increase[0] > increase[1] > increase[2]


def test_models_are_judged_on_rows_they_have_not_seen() -> None:
    data = planted(80)
    found = measure(data, ONE, 0, lambda: None)
    assert set(found.models) == {"forest", "linear", "xgboost"}
    # the scores are linear
    assert found.models["linear"].r2 == pytest.approx(1.0)
    for model in ("forest", "xgboost"):
        r2, rank = found.models[model].r2, found.models[model].spearman
        assert r2 is not None
        assert rank is not None
        assert 0.8 < r2 < 1
        assert rank > 0.9
    assert found.held is not None
    assert found.held[0] > 5 * found.held[1] > 5 * found.held[2]


def test_an_effort_without_extras_has_the_same_three_and_fits() -> None:
    data = planted()
    quick = measure(data, Effort(1, 0, beside=False), 0, lambda: None)
    thorough = measure(data, Effort(1, 2, beside=True), 0, lambda: None)
    np.testing.assert_array_equal(quick.three, thorough.three)
    np.testing.assert_array_equal(quick.draws, thorough.draws)
    assert quick.models["forest"] == thorough.models["forest"]
    assert (quick.impurity_draws, quick.held, quick.boosted) == (None, None, None)
    assert thorough.impurity_draws is not None
    assert thorough.impurity_draws.shape == (2, 5)


def test_threads_do_not_change_what_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = planted()
    effort = Effort(bootstraps=4, impurity_bootstraps=3, beside=False)
    alone = measure(data, effort, 0, lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    beside = measure(data, effort, 0, lambda: None)
    np.testing.assert_array_equal(alone.draws, beside.draws)
    np.testing.assert_array_equal(alone.impurity_draws, beside.impurity_draws)


def test_an_interval_needs_a_bootstrap() -> None:
    with pytest.raises(SpecError, match="got 0"):
        Effort(bootstraps=0, impurity_bootstraps=0, beside=False)
