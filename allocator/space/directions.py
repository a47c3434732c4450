"""Whether a score is better when lower: as asked, by name, by its rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

# whole words, and words that belong together, of scores that are better when lower
LOWER = frozenset(
    (
        *("perplexity", "perplexities", "ppl", "ppls", "pplx", "bpb", "bpc"),
        *("loss", "losses", "logloss", "nll", "xent", "crossentropy", "kl", "kld"),
        *("divergence", "wer", "cer", "ter", "error", "errors", "err"),
        *("smape", "msle", "rmsle", "jsd", "mmd", "latency", "regret"),
        *("mse", "rmse", "mae", "nmse", "fid", "lpips", "brier", "ece", "eer"),
    )
)
TOGETHER = (
    # of made-up objects (arXiv 1809.02156): CHAIR_s, CHAIR_i
    *(("chair", "s"), ("chair", "i")),
    *(("cross", "entropy"), ("edit", "distance"), ("hallucination", "rate")),
    *(("negative", "log", "likelihood"), ("neg", "log", "likelihood")),
    *(("bits", "per", unit) for unit in ("byte", "char", "character", "token", "word")),
)
# what turns such a word round: error_free, loss reduction, neg_loss, 1 - WER
AFTER = frozenset(
    (
        *("free", "less", "reduction", "reduced", "improvement", "gain", "drop"),
        *("recovery", "recovered", "robustness", "robust", "tolerance", "detection"),
        *("detected", "correction", "corrected", "resistance", "retained", "kept"),
        *("accuracy", "acc", "auc", "auroc", "precision", "recall"),
        *("avoided", "analysis", "finding"),
    )
)
BEFORE = frozenset(("neg", "negative", "minus", "inverse", "inv", "reciprocal", "no"))
ONE_LESS = re.compile(r"\s*1?\s*[-\u2212\u2013/]\s*[A-Za-z]")
# words with their parts: evalLoss is eval and loss
LETTERS, PARTS = (
    re.compile(r"[A-Za-z]+|\d+"),
    re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+"),
)
UP, DOWN = "\u2191\u2b06\u25b2", "\u2193\u2b07\u25bc"

# of the comparisons that rows allow, the share that tells a direction, of their number
# and of their sizes; of few rows nearly all have to
SHARE, WEIGHT, NEARLY_ALL = 0.65, 0.9, 0.95
MANY_ROWS, LEAST_ROWS, LEAST_PAIRS = 12, 5, 8
# rows that are compared with each other; of more, every so many
MOST = 1500


def lower_by_name(name: str) -> str | None:
    """The part of a column's name that says lower is better; None where none does.

    >>> lower_by_name("eval_loss"), lower_by_name("lossless_share")
    ('loss', None)
    """
    for sign in name:
        if sign in UP + DOWN:
            return sign if sign in DOWN else None
    words = _words(name)
    if {"better", "best"} & {*words}:
        return next((w for w in ("lower", "smaller", "less") if w in words), None)
    for at, word in enumerate(words):
        told = next((t for t in TOGETHER if (*words[at : at + len(t)],) == t), (word,))
        if len(told) > 1 or _is_lower(word):
            before, after = {*words[:at]}, {*words[at + len(told) :]}
            one_less = before <= {"1"} and ONE_LESS.match(name)
            turned = BEFORE & before or AFTER & after or one_less
            return None if turned else " ".join(told)
    return None


def _words(name: str) -> list[str]:
    """Words of a name in lower case; those that are known are not cut up."""
    found: list[str] = []
    for each in LETTERS.findall(name):
        known = _is_lower(each.lower())
        found += [each.lower()] if known else [w.lower() for w in PARTS.findall(each)]
    return found


def _is_lower(word: str) -> bool:
    return word in LOWER or word.startswith("perplex")


def is_higher_better(name: str, minimize: bool | None) -> bool:
    """Whether a higher score is the better one: as asked, else by its name."""
    return lower_by_name(name) is None if minimize is None else not minimize


def guessed(name: str, minimize: bool | None) -> list[str]:
    """The sentence that says what was guessed; none where it was asked for."""
    word = lower_by_name(name)
    if minimize is not None or word is None:
        return []
    return [
        f"{name} is taken to be better when lower, by its name ({word}); --maximize if "
        "it is not."
    ]


def doubted(bits: ArrayLike, scores: ArrayLike, higher_is_better: bool) -> list[str]:
    """The sentence that asks for the direction where wider rows are worse throughout.

    Rows are compared where one has at least as many bits in every group, and more in
    one: whatever rows a search chose, bits hardly ever hurt. Noise decides between rows
    that score about the same, so large differences count as well as many.

    Args:
        bits: [n, groups].
        scores: [n], as they are.
        higher_is_better: what they were taken for.
    """
    table = np.asarray(bits, dtype=np.float64)
    values = np.asarray(scores, dtype=np.float64)
    step = -(-len(table) // MOST) or 1
    gains, rows = _gains(table[::step], values[::step])
    lost = gains < 0 if higher_is_better else gains > 0
    if rows < LEAST_ROWS or len(gains) < LEAST_PAIRS:
        return []
    share = SHARE if rows >= MANY_ROWS else NEARLY_ALL
    sizes = np.abs(gains)
    if lost.mean() < share or sizes[lost].sum() < WEIGHT * sizes.sum():
        return []
    falls, other, option = (
        ("fall", "lower", "--minimize")
        if higher_is_better
        else ("rise", "higher", "--maximize")
    )
    return [f"The scores {falls} as bits rise: is {other} better? Then give {option}."]


def _gains(
    bits: NDArray[np.float64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], int]:
    """What wider rows score more than narrower ones, ties left out; rows compared."""
    wider = np.ones((len(bits), len(bits)), dtype=bool)
    for column in bits.T:
        wider &= column[:, None] >= column[None, :]
    gain = scores[:, None] - scores[None, :]
    wider &= ~wider.T & (gain != 0)
    compared = int((wider.any(axis=0) | wider.any(axis=1)).sum())
    found: NDArray[np.float64] = gain[wider]
    return found, compared


def best(scored: Sequence[tuple[float, float]], higher_is_better: bool) -> int:
    """Index of the best of (bits per weight, score); of equals the smallest.

    >>> best([(4.0, 9.1), (3.0, 9.1), (2.0, 9.9)], higher_is_better=False)
    1
    """
    sign = 1 if higher_is_better else -1
    return max(
        range(len(scored)), key=lambda at: (sign * scored[at][1], -scored[at][0])
    )
