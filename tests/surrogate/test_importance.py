from __future__ import annotations

import csv
import re
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from allocator.core.errors import SpecError
from surrogate.importance import Analysis, analyse
from surrogate.imputation import impute
from surrogate.measures import QUICK, THOROUGH, Effort

PUBLISHED = Path(__file__).parents[2] / "studies" / "published"
WIDTHS = [2, 3, 4, 5, 6, 8]
NAMES = ("a", "b", "c", "d")
LEVELS = {
    "component": ("vision", "vision", "language", "language"),
    "group": NAMES,
    "again": ("x", "b", "x", "d"),
}

quick = partial(analyse, effort=Effort(4, beside=False))


def planted(rows: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that follow a, a third as much b, and not c or d."""
    rng = np.random.default_rng(0)
    bits = rng.choice(WIDTHS, (rows, 4)).astype(float)
    return bits, 3 * bits[:, 0] + bits[:, 1] + noise * rng.normal(size=rows)


def published(file: str, columns: list[str], score: str, seed: int = 0) -> Analysis:
    with (PUBLISHED / file).open() as lines:
        rows = list(csv.DictReader(lines))
    bits = [[float(row[column]) for column in columns] for row in rows]
    scores = [float(row[score]) for row in rows]
    return quick(bits, scores, columns, seed=seed)


def test_a_planted_order_is_recovered_and_the_shares_add_up() -> None:
    analysis = quick(*planted(80), NAMES)
    found = analysis.levels["group"]
    a, b, c, d = found.consensus
    assert a > 70
    assert a > b > 3 * max(c, d)
    shares = found.impurity, found.permutation, found.shap
    for share in (found.consensus, *shares):
        assert share.sum() == pytest.approx(100)
    np.testing.assert_allclose(found.consensus, np.mean(shares, axis=0))
    assert analysis.reliable
    assert (analysis.reason, analysis.warning) == (None, None)
    assert analysis.rows == len(np.unique(planted(80)[0], axis=0))
    assert found.agreement is not None
    assert found.agreement > 0.5


def test_intervals_hold_the_estimate_and_part_strong_from_weak() -> None:
    found = quick(*planted(80), NAMES, effort=QUICK).levels["group"]
    low, high = found.ci95.T
    assert (low <= found.consensus).all()
    assert (found.consensus <= high).all()
    assert low[0] > high[1] > high[2]


def test_what_stands_beside_agrees_and_has_its_interval() -> None:
    effort = Effort(draws=4, beside=True)
    analysis = analyse(*planted(60), NAMES, effort=effort)
    found = analysis.levels["group"]
    low, high = found.impurity_ci95.T
    assert (low <= found.impurity).all()
    assert (found.impurity <= high).all()
    assert (high - low)[0] > 0
    for share in (found.out_of_fold_permutation, found.xgboost_shap):
        assert share is not None
        assert share.sum() == pytest.approx(100)
        assert share[0] > 60
    assert set(analysis.models) == {"forest", "linear", "xgboost"}
    without = quick(*planted(60), NAMES).levels["group"]
    np.testing.assert_array_equal(found.consensus, without.consensus)
    np.testing.assert_array_equal(found.impurity_ci95, without.impurity_ci95)
    assert without.xgboost_shap is None


def test_sets_of_single_columns_have_the_columns_own_numbers() -> None:
    levels = quick(*planted(60), NAMES, levels=LEVELS).levels
    alone = quick(*planted(60), NAMES, levels={"group": NAMES}).levels["group"]
    single = quick(*planted(60), "wxyz", levels={"same": "efgh"}).levels["same"]
    for name in ("consensus", "ci95", "impurity", "permutation", "shap"):
        expected = getattr(alone, name)
        np.testing.assert_array_equal(getattr(levels["group"], name), expected)
        np.testing.assert_array_equal(getattr(single, name), expected)
    assert single.names == ("e", "f", "g", "h")


def test_levels_come_from_one_forest() -> None:
    levels = quick(*planted(60), NAMES, levels=LEVELS).levels
    group, component = levels["group"], levels["component"]
    assert component.names == ("vision", "language")
    assert component.impurity[0] == pytest.approx(group.impurity[:2].sum())
    assert component.consensus[0] > 90
    assert component.consensus.sum() == pytest.approx(100)
    assert levels["again"].names == ("x", "b", "d")
    assert levels["again"].impurity[0] == pytest.approx(group.impurity[[0, 2]].sum())


def test_a_level_needs_an_owner_for_every_column() -> None:
    with pytest.raises(SpecError, match="level component needs an owner for each of 4"):
        quick(*planted(20), NAMES, levels={"component": ["vision"]})


def test_progress_counts_to_its_total() -> None:
    told: list[tuple[int, int]] = []
    effort = Effort(draws=5, beside=False)
    analyse(
        *planted(12), NAMES, effort=effort, progress=lambda *done: told.append(done)
    )
    assert told == [(done, 5) for done in range(1, 6)]


def test_quality_is_measured_on_rows_the_forest_has_not_seen() -> None:
    models = quick(*planted(80), NAMES).models
    assert models["linear"].r2 == pytest.approx(1.0)
    forest = models["forest"]
    assert forest.r2 is not None
    assert forest.spearman is not None
    assert 0.8 < forest.r2 < 1
    assert forest.spearman > 0.9


def test_equal_seeds_agree_whatever_the_order_of_the_rows() -> None:
    bits, scores = planted(40, noise=1)
    shuffled = np.random.default_rng(9).permutation(40)
    first = quick(bits, scores, NAMES).levels["group"]
    second = quick(bits[shuffled], scores[shuffled], NAMES).levels["group"]
    np.testing.assert_array_equal(first.consensus, second.consensus)
    np.testing.assert_array_equal(first.ci95, second.ci95)
    other = quick(bits, scores, NAMES, seed=1).levels["group"]
    assert np.abs(first.consensus - other.consensus).max() > 0


def test_unit_and_direction_of_the_scores_do_not_matter() -> None:
    bits, scores = planted(40, noise=1)
    first = quick(bits, scores, NAMES).levels["group"]
    second = quick(bits, 5 - 1e-6 * scores, NAMES).levels["group"]
    np.testing.assert_allclose(first.consensus, second.consensus, atol=0.5)


def test_constant_columns_are_named_and_get_nothing() -> None:
    bits, scores = planted(40)
    bits[:, 2:] = 4
    analysis = quick(bits, scores, NAMES, levels=LEVELS)
    assert analysis.constant == ("c", "d")
    found = analysis.levels["group"]
    assert found.consensus[2:].tolist() == [0, 0]
    assert found.ci95[2].tolist() == [0, 0]
    assert found.consensus.sum() == pytest.approx(100)
    component = analysis.levels["component"]
    assert component.consensus.tolist() == [100, 0]
    assert component.agreement is None


def test_equal_rows_that_differ_in_score_are_averaged_with_a_warning() -> None:
    bits, scores = planted(40)
    twice = np.concatenate([scores + 0.25, scores - 0.25])
    found = quick(np.tile(bits, (2, 1)), twice, NAMES)
    assert found.rows == 40
    assert found.warning is not None
    assert "80 rows repeat 40 settings" in found.warning
    assert "up to 0.5;" in found.warning
    alone = quick(bits, scores, NAMES).levels["group"]
    np.testing.assert_allclose(
        found.levels["group"].consensus, alone.consensus, atol=0.5
    )


def test_equal_rows_with_equal_scores_are_taken_once_without_a_warning() -> None:
    bits, scores = planted(40)
    found = quick(np.tile(bits, (2, 1)), np.tile(scores, 2), NAMES)
    assert (found.rows, found.warning) == (40, None)


@pytest.mark.parametrize("kind", ["normal", "heavy tails", "yes or no", "one outlier"])
def test_noise_is_flagged_as_unreliable(kind: str) -> None:
    bits, _ = planted(60)
    rng = np.random.default_rng(7)
    scores = {
        "normal": rng.normal(size=60),
        "heavy tails": rng.standard_cauchy(60),
        "yes or no": rng.integers(2, size=60),
        "one outlier": np.eye(60)[3],
    }[kind]
    found = quick(bits, scores, NAMES)
    assert not found.reliable
    assert found.reason is not None
    assert "does not predict" in found.reason


@pytest.mark.slow
@pytest.mark.nightly
def test_hardly_a_table_of_noise_is_taken_for_more() -> None:
    reliable = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        bits = rng.choice([*WIDTHS, 16], (30, 3)).astype(float)
        reliable += quick(bits, rng.normal(size=30), "abc").reliable
    # one in a hundred is what the threshold is made for
    assert reliable <= 2


@pytest.mark.slow
def test_a_strong_signal_in_two_dozen_rows_is_reliable() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        bits = rng.choice([*WIDTHS, 16], (24, 3)).astype(float)
        scores = -(4.0**-bits) @ [8, 2, 1] + 0.01 * rng.normal(size=24)
        assert quick(bits, scores, "abc", seed=seed).reliable


def test_too_few_rows_are_flagged_as_unreliable() -> None:
    found = quick(*planted(11), NAMES)
    assert found.reason == (
        "11 distinct rows are too few for 4 varying features; it takes 12."
    )
    assert found.levels["group"].consensus.sum() == pytest.approx(100)


def test_of_suggested_scores_only_what_looks_tell_counts() -> None:
    rng = np.random.default_rng(0)
    bits = rng.choice(WIDTHS, (60, 14)).astype(float)
    true = bits @ rng.random(14)
    measured = np.where(np.arange(60) < 11, true, np.nan)
    reasons = []
    # looks that are the score, and looks that are anything
    for looks in (true, rng.normal(size=60)):
        kept, imputation = impute(measured, looks[:, None])
        assert kept.tolist() == list(range(60))
        names = [str(column) for column in range(14)]
        found = quick(bits, imputation.expected, names, imputation=imputation)
        reasons.append(found.reason or "")
        assert (found.rows, found.worth) == (60, imputation.worth)
    assert "too few" not in reasons[0]
    assert re.fullmatch(
        r"11 measured rows, and 49 whose looks are worth \d more, are too few for 14 "
        r"varying features; it takes 14\.",
        reasons[1],
    )


def test_intervals_count_what_looks_leave_open() -> None:
    rng = np.random.default_rng(0)
    bits, true = planted(80)
    measured = np.where(np.arange(80) < 12, true, np.nan)
    _, imputation = impute(measured, (true + 3 * rng.normal(size=80))[:, None])
    scores = imputation.expected
    sure = quick(bits, scores, NAMES).levels["group"]
    found = quick(bits, scores, NAMES, imputation=imputation).levels["group"]
    np.testing.assert_array_equal(found.consensus, sure.consensus)
    assert np.ptp(found.ci95, axis=1).sum() > np.ptp(sure.ci95, axis=1).sum()


def test_two_rows_have_shares_but_no_quality() -> None:
    found = quick([[2, 4, 4, 4], [8, 4, 4, 4]], [1, 2], NAMES)
    assert found.levels["group"].consensus.tolist() == [100, 0, 0, 0]
    assert found.constant == ("b", "c", "d")
    assert found.levels["group"].agreement is None
    assert found.models["forest"].spearman is None


@pytest.mark.parametrize("rows", [1, 30])
def test_equal_scores_leave_nothing_to_explain(rows: int) -> None:
    bits, _ = planted(rows)
    found = quick(bits, [0.1] * rows, NAMES)
    assert not found.reliable
    assert found.reason is not None
    assert "the same score" in found.reason
    assert found.levels["group"].consensus.tolist() == [0] * 4
    assert found.levels["group"].ci95.shape == (4, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_published_captioning_table_gives_its_consensus_back(seed: int) -> None:
    columns = ["vit_bits", "qformer_bits", "llm_bits"]
    found = published("blip2_coco_awq.csv", columns, "CIDEr", seed)
    # as the paper prints it
    expected = [17.1, 2.5, 80.5]
    np.testing.assert_allclose(
        found.levels["group"].consensus, expected, rtol=0, atol=1.0
    )
    assert found.reliable


@pytest.mark.parametrize("seed", range(3))
def test_the_published_retrieval_table_gives_its_consensus_back(seed: int) -> None:
    columns = ["vit_bits", "qformer_bits"]
    found = published("blip2_flickr_awq.csv", columns, "img_r1", seed)
    # as the paper prints it
    expected = [84.7, 15.3]
    np.testing.assert_allclose(
        found.levels["group"].consensus, expected, rtol=0, atol=1.0
    )
    assert found.reliable


@pytest.mark.bench
def test_bench_an_analysis_of_eighteen_groups() -> None:
    rng = np.random.default_rng(0)
    names = [str(column) for column in range(18)]
    levels = {"component": [str(column // 6) for column in range(18)], "group": names}
    for rows in (60, 500):
        bits = rng.choice(WIDTHS, (rows, 18))
        scores = bits @ rng.random(18) ** 3
        analyse(bits, scores, names, effort=Effort(2, beside=False))
        for title, effort in (("quick", QUICK), ("thorough", THOROUGH)):
            start = time.perf_counter()
            analyse(bits, scores, names, levels=levels, effort=effort)
            print(f"\n{title}, {rows} x 18: {time.perf_counter() - start:.2f} s")
