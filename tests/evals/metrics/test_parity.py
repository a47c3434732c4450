"""Metrics beside implementations that we did not write.

What is recorded in `metric_values.json` was made by `studies/tasks/metrics.py`, which
also writes it down in `studies/tasks/metrics.md`.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from evals.metrics.anls import similarity
from evals.metrics.f1 import f1, tokens
from tests.evals.metrics.cases import digest
from tests.evals.metrics.values import (
    DIFFERENCES,
    MADE,
    VALUES,
    Value,
    alike,
    ours,
    shown_to,
    unpacked,
)

RECORD: dict[str, Any] = json.loads(VALUES.read_text(encoding="utf-8"))
EACH = pytest.mark.parametrize(
    ("metric", "label"),
    [(metric, label) for metric, known in RECORD["values"].items() for label in known],
)


@cache
def mine(metric: str) -> list[Value]:
    return ours(metric, shown_to(metric))


@pytest.mark.parametrize("name", MADE)
def test_the_same_cases_are_made_as_were_recorded(name: str) -> None:
    assert digest(MADE[name]()) == RECORD["cases"][name]


@EACH
def test_values_are_those_of_others_but_for_kinds_that_differ_on_purpose(
    metric: str, label: str
) -> None:
    shown = shown_to(metric)
    values = unpacked(RECORD["values"][metric][label])
    assert len(shown) == len(values) > 3000
    other = Counter(
        case.kind
        for case, one, another in zip(shown, mine(metric), values, strict=True)
        if not alike(one, another)
    )
    reasons = DIFFERENCES.get((metric, label), {})
    assert set(other) == {kind for kinds in reasons.values() for kind in kinds}


def test_no_difference_is_explained_that_nobody_recorded() -> None:
    known = {(m, label) for m, values in RECORD["values"].items() for label in values}
    assert set(DIFFERENCES) <= known


def test_anls_is_that_of_a_package_for_it() -> None:
    anls_score = pytest.importorskip("anls").anls_score
    rng = Random(3)
    for _ in range(5000):
        one, other = (
            "".join(rng.choices("abC 1", k=rng.randint(1, 9))).strip() or "a"
            for _ in range(2)
        )
        # the paper does not count 0.5 itself
        assert similarity(one, other) == pytest.approx(
            100 * anls_score(one, [other], 0.5 + 1e-9)
        )


def test_f1_is_that_of_scikit_learn_where_each_word_is_a_label() -> None:
    rng = Random(5)
    texts = [
        tuple(
            " ".join(
                rng.choices(["dog", "cat", "red", "3.5", "two"], k=rng.randint(1, 6))
            )
            for _ in range(2)
        )
        for _ in range(3000)
    ]
    # a label for each text, a row for each word and how often it came before
    rows = sorted({each for pair in texts for text in pair for each in counted(text)})
    place = {row: n for n, row in enumerate(rows)}
    said, wanted = (np.zeros((len(rows), len(texts)), dtype=int) for _ in range(2))
    for n, (reply, answer) in enumerate(texts):
        for table, text in ((said, reply), (wanted, answer)):
            table[[place[each] for each in counted(text)], n] = 1
    expected = f1_score(wanted, said, average=None, zero_division=0)
    assert [f1(*pair) for pair in texts] == pytest.approx(list(100 * expected))


def counted(text: str) -> list[tuple[str, int]]:
    words = tokens(text)
    return [(word, words[:n].count(word)) for n, word in enumerate(words)]
