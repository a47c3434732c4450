"""Explanations in words say what the figures say, and no more."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from allocator.explain.sentences import sentences, unit_of


def share(value: float, low: float, high: float) -> dict[str, Any]:
    return {"consensus": value, "ci95": [low, high]}


EXPLAINED: dict[str, Any] = {
    "metric": "VQA accuracy (%)",
    "higher_is_better": True,
    "importance": {
        "component": {"vision": share(20, 10, 30), "language": share(80, 70, 90)},
        "block_group": {},
        "layer_type": {},
        "group": {f"g{n}": share(25 - n, 1, 40) for n in range(5)},
        "unreliable": {"component": None, "group": None},
        "agreement": {"group": 0.875},
        "models": {
            "forest": {"r2": 0.81, "spearman": 0.9},
            "linear": {"r2": 0.15, "spearman": 0.4},
        },
        "rows": 60,
        "constant": [],
        "warning": None,
    },
    "interactions": {
        "group": [{"first": "g0", "second": "g3", "strength": 2.5, "share": 9.0}],
        "component": [],
        "holdout_r2": 0.7,
        "reason": None,
    },
    "together": [],
    "allocation": None,
    "narrowed": [],
}
MOVE = {"group": "g1", "from": "3 gptq", "to": "4 gptq", "bpw": 0.08, "score": 0.6}
CHOSEN = {
    "digest": "x",
    "bpw": 4.0,
    "score": 94.0,
    "predicted": 93.0,
    "mean": 80.0,
    "contributions": {"g0": 9.0, "g1": -1.0, "g2": 5.0, "g3": 0.1},
    "more": {"bpw": 0.1, "steps": [MOVE], "reason": None},
    "less": {"bpw": -0.1, "steps": [], "reason": "Every group is at its narrowest."},
    "equal": [],
}


def said(**changes: Any) -> str:
    return " ".join(sentences({**deepcopy(EXPLAINED), **changes}))


def test_the_first_component_is_named_with_its_interval() -> None:
    found = said()
    assert "What decides the score most is language (80 %, 70 to 90)" in found
    assert "then vision (20 %, 10 to 30)" in found
    assert "Of the 5 groups it is above all g0 (25 %, 1 to 40), g1" in found


def test_where_intervals_overlap_it_only_seems_so() -> None:
    importance = deepcopy(EXPLAINED["importance"])
    importance["component"]["vision"]["ci95"] = [10, 75]
    found = said(importance=importance)
    assert "Most seems to hang on language" in found
    assert "decides the score most" not in found


def test_of_noise_nothing_is_said_but_that() -> None:
    importance = deepcopy(EXPLAINED["importance"])
    importance["unreliable"]["group"] = "The forest does not predict rows."
    found = sentences({**EXPLAINED, "importance": importance, "allocation": CHOSEN})
    assert found == [
        "Nothing can be said about what matters: the forest does not predict rows."
    ]


def test_bits_that_do_not_add_up_are_told_from_those_that_do() -> None:
    assert "explains 81 %" in said()
    assert "a straight line through the bits 15 %, so bits do not simply add" in said()
    importance = deepcopy(EXPLAINED["importance"])
    importance["models"]["linear"]["r2"] = 0.8
    assert "simply add up" not in said(importance=importance)


@pytest.mark.parametrize(
    "change", [{"holdout_r2": 0.1}, {"reason": "no"}, {"group": []}]
)
def test_pairs_are_told_where_a_model_predicts(change: dict[str, Any]) -> None:
    assert "acts together most is g0 and g3" in said()
    interactions = {**EXPLAINED["interactions"], **change}
    assert "acts together" not in said(interactions=interactions)


@pytest.mark.parametrize(
    ("ci95", "expected"),
    [
        (
            [0.5, 2.0],
            "costs 1.20 points more than the sum of each alone ([+0.50, +2.00]",
        ),
        ([-2.0, -0.5], "costs 1.20 points less than the sum of each alone"),
        ([-2.0, 0.5], "costs as much as the sum of each alone, as far as can be told"),
    ],
)
def test_a_joint_effect_is_claimed_beyond_its_interval_alone(
    ci95: list[float], expected: str
) -> None:
    effect = {"first": "vision", "second": "language", "ci95": ci95, "count": 36}
    sign = -1.2 if ci95[1] < 0 else 1.2
    found = said(together=[{**effect, "excess": sign, "basis": "measured"}])
    assert expected in found
    assert "from 36 comparisons measured" in found


def test_an_allocation_is_explained_by_its_largest_parts() -> None:
    found = said(allocation=CHOSEN)
    assert "expects 93.00 points of the chosen allocation, +13.00 points" in found
    assert "g0 (+9.00 points), g2 (+5.00 points) and g1 (-1.00 points)" in found
    assert "0.1 bits per weight more would buy about 0.60 points" in found
    assert "g1 from 3 gptq to 4 gptq (predicted)" in found
    assert "less would cost cannot be said: every group is at its narrowest." in found


def test_what_cannot_be_told_apart_and_what_was_frozen_is_said() -> None:
    equal = {"digest": "y", "bpw": 3.9, "score": 93.9, "difference": -0.1}
    equal |= {"ci95": [-0.4, 0.2], "samples": "search, corrected"}
    found = said(allocation={**CHOSEN, "equal": [equal]})
    assert (
        "cannot be told from the front's 3.900 bits per weight "
        "(-0.10 points [-0.40, +0.20], search, corrected)." in found
    )
    frozen = [{"group": "g4", "choice": "2 gptq", "share": 0.1, "reason": "r"}]
    assert "g4 at 2 gptq stayed fixed" in said(narrowed=frozen)


def test_constants_and_averaged_rows_are_named() -> None:
    importance = deepcopy(EXPLAINED["importance"])
    importance["constant"] = ["a", "b"]
    importance["warning"] = "4 rows repeat 2 settings."
    found = said(importance=importance)
    assert (
        "a and b have the same bits in every row: nothing can be said of them" in found
    )
    assert "4 rows repeat 2 settings." in found


def test_units_are_points_of_percentages_and_the_metric_otherwise() -> None:
    assert unit_of("VQA accuracy (%)") == "points"
    assert unit_of("CIDEr-D (1.25)") == "CIDEr-D"


def test_of_a_loss_more_bits_buy_less_and_fewer_cost_more() -> None:
    step = {**MOVE, "from": "3", "to": "4", "score": -0.6}
    back = {**MOVE, "from": "4", "to": "3", "score": 0.8}
    chosen = {
        **CHOSEN,
        "predicted": 7.5,
        "mean": 9.0,
        "contributions": {"g0": -1.0, "g1": -0.5},
        "more": {"bpw": 0.1, "steps": [step], "reason": None},
        "less": {"bpw": -0.1, "steps": [back], "reason": None},
    }
    found = said(metric="perplexity", higher_is_better=False, allocation=chosen)
    assert "-1.5 perplexity (lower is better) against the mean" in found
    assert "more would buy about 0.6 perplexity less: g1 from 3 to 4" in found
    assert "less would cost about 0.8 perplexity more: g1 from 4 to 3" in found
    found = said(metric="score", higher_is_better=True, allocation=chosen)
    assert "more would buy about 0.6 score: g1" in found
