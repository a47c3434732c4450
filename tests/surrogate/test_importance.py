from __future__ import annotations

import csv
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from allocator.core.errors import SpecError
from surrogate import importance

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "mmq"
WIDTHS = [2, 3, 4, 5, 6, 8]
NAMES = ("a", "b", "c", "d")

quick = partial(importance.consensus, bootstraps=2, trees=20, repeats=5)


def planted(rows: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that follow a, a third as much b, and not c or d."""
    rng = np.random.default_rng(0)
    bits = rng.choice(WIDTHS, (rows, 4)).astype(float)
    return bits, 3 * bits[:, 0] + bits[:, 1] + noise * rng.normal(size=rows)


def published(file: str, columns: list[str], score: str) -> importance.Importance:
    if not (PUBLISHED / file).exists():
        pytest.skip(f"the published table {file} is not in {PUBLISHED}")
    with (PUBLISHED / file).open() as lines:
        rows = list(csv.DictReader(lines))
    bits = [[float(row[column]) for column in columns] for row in rows]
    scores = [float(row[score]) for row in rows]
    return importance.consensus(bits, scores, columns, bootstraps=2)


def test_a_planted_order_is_recovered_and_the_shares_add_up() -> None:
    found = quick(*planted(80), NAMES)
    a, b, c, d = found.consensus
    assert a > 70
    assert a > b > 3 * max(c, d)
    for share in (found.consensus, found.impurity, found.permutation, found.shap):
        assert share.sum() == pytest.approx(100)
    assert found.reliable
    assert found.reason is None
    assert found.warning is None
    assert found.rows == len(np.unique(planted(80)[0], axis=0))
    assert found.agreement is not None
    assert found.agreement > 0.5


def test_intervals_hold_the_estimate_and_part_strong_from_weak() -> None:
    found = quick(*planted(80), NAMES, bootstraps=10)
    low, high = found.ci95.T
    assert (low <= found.consensus).all()
    assert (found.consensus <= high).all()
    assert low[0] > high[1] > high[2]


def test_quality_is_measured_on_rows_the_forest_has_not_seen() -> None:
    found = quick(*planted(80), NAMES)
    assert found.linear_r2 == pytest.approx(1.0)
    assert found.out_of_fold_spearman is not None
    assert found.out_of_fold_spearman > 0.9
    assert found.out_of_fold_r2 is not None
    assert 0.8 < found.out_of_fold_r2 < 1


def test_equal_seeds_agree_whatever_the_order_of_the_rows() -> None:
    bits, scores = planted(40, noise=1)
    shuffled = np.random.default_rng(9).permutation(40)
    first = quick(bits, scores, NAMES)
    second = quick(bits[shuffled], scores[shuffled], NAMES)
    np.testing.assert_array_equal(first.consensus, second.consensus)
    np.testing.assert_array_equal(first.ci95, second.ci95)
    other = quick(bits, scores, NAMES, seed=1)
    assert np.abs(first.consensus - other.consensus).max() > 0


def test_unit_and_direction_of_the_scores_do_not_matter() -> None:
    bits, scores = planted(40, noise=1)
    first, second = quick(bits, scores, NAMES), quick(bits, 5 - 1e-6 * scores, NAMES)
    np.testing.assert_allclose(first.consensus, second.consensus, atol=0.5)


def test_constant_columns_are_named_and_get_nothing() -> None:
    bits, scores = planted(40)
    bits[:, 2] = 4
    found = quick(bits, scores, NAMES)
    assert found.constant == ("c",)
    assert found.consensus[2] == 0
    assert found.ci95[2].tolist() == [0, 0]
    assert found.consensus.sum() == pytest.approx(100)


def test_equal_rows_that_differ_in_score_are_averaged_with_a_warning() -> None:
    bits, scores = planted(40)
    twice = np.concatenate([scores + 0.25, scores - 0.25])
    found = quick(np.tile(bits, (2, 1)), twice, NAMES)
    assert found.rows == 40
    assert found.warning is not None
    assert "80 rows repeat 40 settings" in found.warning
    assert "up to 0.5;" in found.warning
    alone = quick(bits, scores, NAMES)
    np.testing.assert_allclose(found.consensus, alone.consensus, atol=0.5)


def test_equal_rows_with_equal_scores_are_taken_once_without_a_warning() -> None:
    bits, scores = planted(40)
    found = quick(np.tile(bits, (2, 1)), np.tile(scores, 2), NAMES)
    assert (found.rows, found.warning) == (40, None)


def test_noise_is_flagged_as_unreliable() -> None:
    bits, _ = planted(60)
    found = quick(bits, np.random.default_rng(7).normal(size=60), NAMES)
    assert not found.reliable
    assert found.reason is not None
    assert "does not predict" in found.reason


def test_too_few_rows_are_flagged_as_unreliable() -> None:
    found = quick(*planted(11), NAMES)
    assert found.reason == (
        "11 distinct rows are too few for 4 varying features; it takes 12."
    )
    assert found.consensus.sum() == pytest.approx(100)


def test_two_rows_have_shares_but_no_quality() -> None:
    found = quick([[2, 4, 4, 4], [8, 4, 4, 4]], [1, 2], NAMES)
    assert found.consensus.tolist() == [100, 0, 0, 0]
    assert found.constant == ("b", "c", "d")
    assert found.agreement is None
    assert found.out_of_fold_spearman is None


@pytest.mark.parametrize("rows", [1, 30])
def test_equal_scores_leave_nothing_to_explain(rows: int) -> None:
    bits, _ = planted(rows)
    found = quick(bits, [0.1] * rows, NAMES)
    assert not found.reliable
    assert found.reason is not None
    assert "the same score" in found.reason
    assert found.consensus.tolist() == [0] * 4
    assert found.ci95.shape == (4, 2)


@pytest.mark.parametrize(
    ("bits", "scores", "message"),
    [
        ([[2, 3, 4, 5]], [1.0, 2.0], "2 scores and 4 names"),
        ([[2, 3, 4]], [1.0], "1 scores and 4 names"),
        (np.empty((0, 4)), [], "at least one row"),
        ([[2, 3, 4, 5]], [float("inf")], "finite"),
    ],
)
def test_impossible_tables_are_refused(
    bits: list[list[float]], scores: list[float], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        importance.consensus(bits, scores, NAMES)


def test_an_interval_needs_a_bootstrap() -> None:
    with pytest.raises(SpecError, match="got 0"):
        importance.consensus(*planted(30), NAMES, bootstraps=0)


def test_the_fast_prediction_is_the_forests_own() -> None:
    bits, scores = planted(50)
    forest = importance._forest(bits, scores, 10, np.random.default_rng(0))
    np.testing.assert_allclose(
        importance._predicted(forest, bits), forest.predict(bits), rtol=1e-12
    )


def test_rank_correlation_gives_ties_their_mean_rank() -> None:
    # ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 x 5)
    first, second = np.array([1.0, 2, 2, 9]), np.array([1.0, 2, 3, 4])
    assert importance.spearman(first, second) == pytest.approx(4.5 / 22.5**0.5)
    assert importance.spearman(first, np.ones(4)) == 0


def test_components_are_ranked_by_the_same_function() -> None:
    bits, scores = planted(80)
    keys = ["vision.all.attn", "vision.all.ff", "language.all.attn", "language.all.ff"]
    names, matrix = importance.component_matrix(keys, bits, [3, 1, 2, 2])
    found = quick(matrix, scores, names)
    assert found.names == ("vision", "language")
    assert found.consensus[0] > 90


@pytest.mark.slow
def test_the_published_captioning_table_gives_its_consensus_back() -> None:
    columns = ["vit_bits", "qformer_bits", "llm_bits"]
    found = published("blip2_coco_awq.csv", columns, "CIDEr")
    # what 100 trees, 50 repeats and TreeExplainer gave; the paper prints 17.1/2.5/80.5
    np.testing.assert_allclose(found.consensus, [16.9, 2.4, 80.7], atol=1.0)
    assert found.reliable


def test_the_published_retrieval_table_gives_its_consensus_back() -> None:
    columns = ["vit_bits", "qformer_bits"]
    found = published("blip2_flickr_awq.csv", columns, "img_r1")
    # as above; the paper prints 84.7/15.3
    np.testing.assert_allclose(found.consensus, [84.5, 15.5], atol=1.0)
    assert found.reliable


@pytest.mark.bench
def test_bench_a_consensus_of_eighteen_groups() -> None:
    rng = np.random.default_rng(0)
    bits = rng.choice(WIDTHS, (60, 18))
    scores = bits @ rng.random(18) ** 3
    quick(bits, scores, [str(column) for column in range(18)])
    start = time.perf_counter()
    importance.consensus(bits, scores, [str(column) for column in range(18)])
    print(f"\nconsensus of 60 x 18: {time.perf_counter() - start:.2f} s")
