"""What scored allocations say, against tables in which the truth is planted."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.explain.evidence import LEVELS, Evidence
from allocator.explain.importance import (
    contributions_json,
    effects,
    importance,
    interaction_contrasts,
)

KEYS = ("vision.front.attn", "vision.front.ff", "language.all.attn", "language.all.ff")
WIDTHS = (2, 4, 8, 16)


def planted(seed: int = 0) -> Evidence:
    """Every combination of four widths: language decides, its ff most of all."""
    bits = np.array(list(itertools.product(WIDTHS, repeat=4)), dtype=np.float64)
    lost = 2.0**-bits @ np.array([2.0, 4.0, 10.0, 40.0])
    noise = np.random.default_rng(seed).normal(0, 0.05, len(bits))
    return Evidence(KEYS, bits, 90.0 - lost + noise)


@pytest.mark.parametrize(
    ("keys", "component", "part", "kind"),
    [
        (("vision.front.attn",), "vision", "vision.front", "vision.attn"),
        (("vit_front_attn",), "vit", "vit.front", "vit.attn"),
        (("vit_front_attn_bits",), "vit", "vit.front", "vit.attn"),
        (("language.07.ff",), "language", "language.07", "language.ff"),
    ],
)
def test_names_of_three_parts_tell_the_levels(
    keys: tuple[str, ...], component: str, part: str, kind: str
) -> None:
    levels = Evidence(keys, np.ones((1, 1)), np.ones(1)).levels
    assert levels == {
        "component": [component],
        "block_group": [part],
        "layer_type": [kind],
        "group": list(keys),
    }


def test_other_names_tell_nothing_but_themselves() -> None:
    keys = ("vit_bits", "llm_bits")
    evidence = Evidence(keys, np.ones((1, 2)), np.ones(1))
    assert evidence.levels == {"group": list(keys)}
    assert evidence.owners == list(keys)


def test_planted_parts_are_found_at_every_level() -> None:
    found = importance(planted())
    assert json.loads(json.dumps(found)) == found
    order = {
        level: sorted(found[level], key=lambda n: -found[level][n]["consensus"])
        for level in LEVELS
    }
    assert order["group"] == list(KEYS)[::-1]
    assert order["component"] == ["language", "vision"]
    assert order["layer_type"][0] == "language.ff"
    assert order["block_group"] == ["language.all", "vision.front"]
    for level in LEVELS:
        total = sum(share["consensus"] for share in found[level].values())
        assert total == pytest.approx(100)
        assert found["unreliable"][level] is None
        for share in found[level].values():
            assert share["ci95"][0] <= share["consensus"] <= share["ci95"][1]


def test_levels_that_no_name_tells_are_empty_with_the_reason() -> None:
    evidence = planted()
    found = importance(Evidence(("a", "b", "c", "d"), evidence.bits, evidence.scores))
    assert found["component"] == {}
    assert "names of the groups tell none" in found["unreliable"]["component"]
    assert found["unreliable"]["group"] is None
    assert set(found["group"]) == {"a", "b", "c", "d"}


def test_few_rows_are_not_ranked() -> None:
    evidence = planted()
    few = Evidence(KEYS, evidence.bits[:5], evidence.scores[:5])
    assert "too few" in importance(few)["unreliable"]["group"]
    one = Evidence(KEYS, evidence.bits[:1], evidence.scores[:1])
    assert importance(one)["unreliable"]["group"]


@pytest.mark.slow
def test_an_explanation_of_one_row_says_that_it_can_say_nothing() -> None:
    evidence = planted()
    one = Evidence(KEYS, evidence.bits[:1], evidence.scores[:1])
    found = effects(one)
    assert found["importance"]["unreliable"]["group"]
    assert found["interactions"]["reason"]
    assert found["together"] == []


@pytest.mark.slow
def test_an_explanation_holds_measures_models_and_pairs() -> None:
    found = effects(planted())
    shares = found["importance"]["group"][KEYS[3]]
    measures = {"impurity", "permutation", "shap"}
    assert shares.keys() == measures | {
        *("consensus", "ci95", "impurity_ci95"),
        *("out_of_fold_permutation", "xgboost_shap"),
    }
    thirds = [shares[name] for name in measures]
    assert shares["consensus"] == pytest.approx(sum(thirds) / 3, abs=0.5)
    assert found["importance"]["models"].keys() == {"forest", "xgboost", "linear"}
    assert len(found["interactions"]["group"]) == 6
    assert len(found["interactions"]["component"]) == 1
    assert found["interactions"]["holdout_r2"] > 0.9
    # nothing but a sum was planted
    (effect,) = found["together"]
    assert (effect["first"], effect["second"]) == ("vision", "language")
    assert effect["ci95"][0] < 0 < effect["ci95"][1]
    assert effect["basis"] == "measured"


def test_components_that_hurt_more_together_are_found() -> None:
    evidence = planted()
    noise = 2.0**-evidence.bits
    harm = noise[:, :2].sum(axis=1) * noise[:, 2:].sum(axis=1)
    worse = Evidence(KEYS, evidence.bits, evidence.scores - 40.0 * harm)
    (effect,) = interaction_contrasts(worse)
    assert effect["ci95"][0] > 0


def test_many_groups_without_components_are_not_asked_in_pairs() -> None:
    bits = np.random.default_rng(0).choice(WIDTHS, size=(40, 6)).astype(float)
    evidence = Evidence(tuple("abcdef"), bits, bits.sum(axis=1))
    assert interaction_contrasts(evidence) == []


def test_contributions_add_up_to_the_prediction() -> None:
    evidence = planted()
    at = evidence.bits.tolist().index([16, 16, 8, 2])
    found = contributions_json(evidence, at)
    total = found["mean"] + sum(found["contributions"].values())
    assert total == pytest.approx(found["predicted"], abs=1e-6)
    # 2 bits there cost 10 points
    worst = min(found["contributions"], key=lambda n: found["contributions"][n])
    assert worst == "language.all.ff"


def test_a_method_is_part_of_what_a_group_gets() -> None:
    rng = np.random.default_rng(0)
    methods = ("uniform", "gptq")
    scored = []
    for _ in range(120):
        picks = {key: Choice(int(rng.choice((2, 3, 4))), "gptq") for key in KEYS}
        picks[KEYS[1]] = Choice(3, str(rng.choice(methods)))
        loss = 10.0 * (picks[KEYS[1]].method == "uniform") + picks[KEYS[0]].bits / 10
        scored.append((Allocation.of(KEYS, picks), 50.0 - loss))
    evidence = Evidence.of(KEYS, scored)
    assert evidence.columns == (*KEYS, f"{KEYS[1]} method")
    found = importance(evidence)
    # its bits never vary, its method does
    assert found["constant"] == []
    assert found["group"][KEYS[1]]["consensus"] > 80
    assert found["group"].keys() == set(KEYS)
    assert found["component"]["vision"]["consensus"] > 90
    parts = contributions_json(evidence, 0)
    assert set(parts["contributions"]) == set(KEYS)
    total = parts["mean"] + sum(parts["contributions"].values())
    assert total == pytest.approx(parts["predicted"], abs=1e-6)


def test_what_never_varies_is_named() -> None:
    evidence = planted()
    bits = evidence.bits.copy()
    bits[:, 0] = 16
    found = importance(Evidence(KEYS, bits, evidence.scores))
    assert found["constant"] == [KEYS[0]]
    assert found["group"][KEYS[0]]["consensus"] == 0
