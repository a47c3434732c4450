"""Whether lower is better is told by whole words, and by rows without a false alarm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from allocator.space.csv_file import read_csv
from allocator.space.directions import (
    best,
    doubted,
    guessed,
    is_higher_better,
    lower_by_name,
)

PUBLISHED = Path(__file__).parents[2] / "studies" / "published"
TABLES = [
    ("blip2_coco_awq.csv", "CIDEr", None),
    ("blip2_coco_awq.csv", "METEOR", None),
    *(
        ("blip2_flickr_awq.csv", name, None)
        for name in ("img_r1", "img_r10", "txt_r1", "txt_r_mean", "r_mean")
    ),
    *(
        ("blip2_coco_uniform.csv", name, "vit_*,qformer_*,llm_*")
        for name in ("cider", "bleu4")
    ),
]


@pytest.mark.parametrize(
    "name",
    [
        *("perplexity", "Perplexity", "PPL", "ppl_wikitext2", "WikiText2PPL"),
        *("Perplexity\N{DOWNWARDS ARROW}", "score \N{DOWNWARDS ARROW}", "eval_loss"),
        *("evalLoss", "val/loss", "loss", "WER", "WER (%)", "cer", "word error rate"),
        *("Word Error Rate [%]", "error", "top-1 error", "mse", "RMSE", "MAE", "nll"),
        *("cross-entropy", "CrossEntropy", "bits_per_byte", "bpb", "accuracy_loss"),
        *("negative log-likelihood", "kl_divergence", "score (lower is better)"),
        *("sMAPE", "latency_ms", "jsd", "CHAIR_s", "chair_i", "mean regret"),
        *("hallucination_rate", "1-shot loss", "edit distance"),
    ],
)
def test_known_names_are_better_when_lower(name: str) -> None:
    assert lower_by_name(name) is not None


@pytest.mark.parametrize(
    "name",
    [
        *("score", "accuracy", "CIDEr", "METEOR", "img_r1", "r_mean", "F1", "bleu4"),
        *("error_free", "lossless_share", "lossless", "glossary", "power", "answer"),
        *("chair", "chairs_AP", "latency reduction"),
        *("certainty", "cerebral", "lower_body_accuracy", "error_detection_accuracy"),
        *("loss_reduction", "neg_loss", "neg_mse", "1-WER", "1 - cer", "-loss"),
        *("log_likelihood", "WER \N{UPWARDS ARROW}", "loss (higher is better)"),
        *("VQA accuracy (%)", "exact_match", "HallusionBench", "bits", "terminal"),
    ],
)
def test_other_names_are_not(name: str) -> None:
    assert lower_by_name(name) is None


def test_what_is_asked_for_comes_before_the_name() -> None:
    assert is_higher_better("loss", None) is False
    assert is_higher_better("loss", minimize=False) is True
    assert is_higher_better("score", None) is True
    assert is_higher_better("score", minimize=True) is False
    assert guessed("loss", minimize=False) == guessed("loss", minimize=True) == []
    assert guessed("score", None) == []
    (said,) = guessed("eval_loss", None)
    assert "eval_loss is taken to be better when lower" in said
    assert "(loss)" in said
    assert "--maximize" in said


def test_the_best_is_the_smallest_of_equals_either_way() -> None:
    points = [(4.0, 9.0), (3.0, 9.0), (2.0, 5.0), (5.0, 9.5)]
    assert best(points, higher_is_better=True) == 3
    assert best(points, higher_is_better=False) == 2
    assert best(points[:2], higher_is_better=False) == 1


def drawn(seed: int, rows: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).choice([2, 3, 4, 8], (rows, 3))


def test_scores_that_fall_as_bits_rise_are_asked_about() -> None:
    bits = drawn(0)
    scores = 50 + bits @ [1.0, 0.5, 2.0]
    assert doubted(bits, scores, higher_is_better=True) == []
    assert doubted(bits, -scores, higher_is_better=False) == []
    (said,) = doubted(bits, -scores, higher_is_better=True)
    assert "scores fall as bits rise: is lower better?" in said
    assert "--minimize" in said
    (said,) = doubted(bits, scores, higher_is_better=False)
    assert "scores rise as bits rise: is higher better?" in said
    assert "--maximize" in said


def test_few_rows_and_equal_scores_are_not_asked_about() -> None:
    bits = np.array([[2, 2], [3, 3], [4, 4], [8, 8]])
    assert doubted(bits, [4.0, 3.0, 2.0, 1.0], higher_is_better=True) == []
    assert doubted(drawn(1), np.ones(30), higher_is_better=True) == []
    assert doubted(np.full((30, 2), 4), np.arange(30.0), higher_is_better=True) == []


def test_noise_is_hardly_ever_asked_about() -> None:
    alarms = 0
    for seed in range(100):
        scores = np.random.default_rng(seed).normal(size=30)
        alarms += bool(doubted(drawn(seed), scores, higher_is_better=True))
    # one in fifty at most: two rows in three would have to agree by chance
    assert alarms <= 2


@pytest.mark.parametrize(("file", "score", "bits"), TABLES)
def test_published_tables_raise_no_alarm_and_turned_round_they_do(
    file: str, score: str, bits: str | None
) -> None:
    sheet = read_csv(PUBLISHED / file, (score,), bits)
    scores = np.array(sheet.scores(score))
    assert doubted(sheet.bits, scores, higher_is_better=True) == []
    assert doubted(sheet.bits, -scores, higher_is_better=True) != []
