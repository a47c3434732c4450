"""Searches simulated on planted truths do what searches do."""

from __future__ import annotations

import numpy as np

from studies.statistics._truths import (
    BUDGET,
    PROPOSALS,
    SIZES,
    WIDTHS,
    Truth,
    search,
)


def test_a_simulated_search_keeps_its_budget_and_measures_one_each() -> None:
    rng = np.random.default_rng(0)
    truth = Truth.drawn(rng, 0.2, 0.25)
    found = search(truth, rng)
    sizes = WIDTHS[found.table[..., 0]] @ SIZES / SIZES.sum()
    assert sizes.max() <= BUDGET + 1e-9
    measured = np.isfinite(found.scores)
    assert found.proposals[measured].tolist() == list(range(PROPOSALS))
    # what is measured was looked at by both looks, and is better than the rest
    assert np.isfinite(found.looks[measured]).all()
    true = truth.score(found.table)
    assert true[measured].mean() > true[~measured].mean()
    # nothing is looked at twice
    assert len(np.unique(found.columns, axis=0)) == len(found.table)


def test_a_pair_costs_more_or_less_than_its_groups() -> None:
    rng = np.random.default_rng(1)
    truth = Truth.drawn(rng, 0.2, 0.25)
    row = np.zeros((1, len(SIZES), 2), dtype=np.intp)
    alone = truth.damage[:, 0, 0].sum()
    first, second, excess = truth.pairs[0]
    truth.pairs = [(first, second, excess)]
    both = excess * (truth.damage[first, 0, 0] * truth.damage[second, 0, 0]) ** 0.5
    np.testing.assert_allclose(truth.loss(row, truth.damage), alone + both)
