from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shap

from allocator.core.errors import SpecError
from surrogate import trees
from surrogate.measures import FULL, Data, Effort, measure

WIDTHS = [2, 3, 4, 5, 6, 8]
SETS = [(0,), (1,), (2,), (0, 1), (1, 2)]
TWO = Effort(draws=2, beside=True)


def planted(rows: int = 30) -> Data:
    rng = np.random.default_rng(0)
    bits = np.unique(rng.choice(WIDTHS, (rows, 3)).astype(float), axis=0)
    scores = 3 * bits[:, 0] - bits[:, 1]
    return Data(bits, (scores - scores.mean()) / scores.std(), SETS)


def test_impurity_and_shap_of_sets_are_those_of_their_columns() -> None:
    data = planted()
    impurity, _, size = measure(data, TWO, 0, lambda: None).three
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
    _, increase, _ = measure(data, TWO, 0, lambda: None).three
    assert increase[3] > increase[0] > increase[1] > increase[2]


def test_models_are_judged_on_rows_they_have_not_seen() -> None:
    data = planted(80)
    found = measure(data, TWO, 0, lambda: None)
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
    quick = measure(data, Effort(2, beside=False), 0, lambda: None)
    thorough = measure(data, TWO, 0, lambda: None)
    np.testing.assert_array_equal(quick.three, thorough.three)
    np.testing.assert_array_equal(quick.draws, thorough.draws)
    assert quick.models["forest"] == thorough.models["forest"]
    assert (quick.held, quick.boosted) == (None, None)
    assert thorough.draws.shape == (2, 3, 5)


def test_threads_do_not_change_what_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = planted()
    effort = Effort(draws=4, beside=False)
    alone = measure(data, effort, 0, lambda: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    beside = measure(data, effort, 0, lambda: None)
    np.testing.assert_array_equal(alone.draws, beside.draws)


def test_an_interval_needs_draws() -> None:
    with pytest.raises(SpecError, match="at least two draws, got 1"):
        Effort(draws=1, beside=False)


def test_what_descends_from_one_is_drawn_and_held_out_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = planted(40)
    table = np.arange(len(data.target), dtype=float)[:, None]
    clusters = np.arange(len(table)) // 4
    fitted: list[np.ndarray] = []
    real = trees.forest

    def forest(rows: np.ndarray, *rest: Any) -> Any:
        fitted.append(rows[:, 0].astype(int))
        return real(rows, *rest)

    monkeypatch.setattr(trees, "forest", forest)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = Data(table, data.target, [(0,)], clusters)
    measure(one, Effort(draws=6, beside=False), 0, lambda: None)
    whole, *parts = fitted
    assert len(whole) == len(table)
    assert len(parts) == 5 + 6
    for rows in parts:
        taken = set(rows // 4)
        assert len(rows) == sum(clusters == each for each in taken).sum()
    # half of the ten clusters
    assert all(len(set(rows // 4)) == 5 for rows in parts[5:])


def test_scores_are_drawn_anew_for_every_half() -> None:
    data = planted(40)
    drawn: list[np.ndarray] = []

    def redraw(rng: np.random.Generator) -> np.ndarray:
        drawn.append(data.target + rng.normal(size=len(data.target)))
        return drawn[-1]

    noisy = Data(data.table, data.target, SETS, None, redraw)
    effort = Effort(draws=8, beside=False)
    found = measure(noisy, effort, 0, lambda: None)
    assert len(drawn) == 8
    assert np.abs(drawn[0] - drawn[1]).max() > 0
    sure = measure(data, effort, 0, lambda: None)
    np.testing.assert_array_equal(found.three, sure.three)
    weak = [
        np.mean(each.draws[:, 2, 2] / each.draws[:, 2, :3].sum(1))
        for each in (found, sure)
    ]
    # noise gives to the column that decides nothing
    assert weak[0] > 2 * weak[1]
