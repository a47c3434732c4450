"""Targets mean the linears they are for and nothing else, in transformers and vLLM."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.plugins import load
from allocator.exporters._patterns import matches, patterns
from tests.states import TITLES, VARIANTS

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = [f"model.language_model.layers.{n}" for n in range(12)]
NAMES = [
    *(f"{layer}.{inner}" for layer in LAYERS for inner in ("mlp.up", "mlp.down")),
    "model.vision_tower.encoder.layers.0.mlp.up",
    "model.projector.linear_1",
    "lm_head",
]


def matched(targets: list[str], names: list[str]) -> list[str]:
    return [name for name in names if any(matches(each, name) for each in targets)]


def test_blocks_and_linears_are_alternatives_of_one_expression() -> None:
    wanted = [
        f"{LAYERS[n]}.{inner}" for n in (1, 3) for inner in ("mlp.up", "mlp.down")
    ]
    found = patterns(wanted, NAMES)
    assert found == [r"re:.*language_model.*layers\.(1|3)\.(mlp\.down|mlp\.up)$"]
    # not those of blocks 10 and 11
    assert matched(found, NAMES) == [name for name in NAMES if name in wanted]


def test_all_blocks_are_any_number() -> None:
    found = patterns([f"{layer}.mlp.up" for layer in LAYERS], NAMES)
    assert found == [r"re:.*language_model.*layers\.\d+\.mlp\.up$"]


def test_what_is_in_no_block_has_an_expression_of_its_own() -> None:
    found = patterns(["model.projector.linear_1", "lm_head"], NAMES)
    assert found == [r"re:.*lm_head$", r"re:.*projector.*linear_1$"]


def test_a_block_that_is_a_linear_is_known_by_its_number() -> None:
    names = [f"model.visual.merger.mlp.{n}" for n in range(3)]
    found = patterns([names[0], names[2]], names)
    assert found == [r"re:.*visual.*merger\.mlp\.(0|2)$"]


def test_names_stand_for_themselves_where_an_expression_says_too_much() -> None:
    names = ["model.a.b", "model.a.c.b"]
    assert patterns(["model.a.b"], names) == ["model.a.b"]


@pytest.mark.parametrize(
    ("ours", "vllms"),
    [
        (
            "model.language_model.layers.1.mlp.up",
            "language_model.model.layers.1.mlp.up",
        ),
        (
            "model.vision_tower.encoder.layers.0.mlp.up",
            "vision_tower.vision_model.encoder.layers.0.mlp.up",
        ),
        ("model.projector.linear_1", "projector.linear_1"),
        ("lm_head", "language_model.lm_head"),
    ],
)
def test_the_names_of_vllm_match_too(ours: str, vllms: str) -> None:
    assert matched(patterns([ours], NAMES), [vllms]) == [vllms]


@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=TITLES)
def test_linears_dealt_out_at_random_are_found_in_their_hand(
    family: str, variant: str, tmp_path: Path
) -> None:
    plugin = load("allocator.families", family)
    plugin.tiny(tmp_path, variant)
    module = plugin.outline(tmp_path).module
    names = [name for name, _ in module.named_modules() if name]
    linears = [n for n, m in module.named_modules() if isinstance(m, torch.nn.Linear)]
    rng = random.Random(0)
    hands: list[list[str]] = [[] for _ in range(3)]
    for name in linears:
        rng.choice(hands).append(name)
    for hand in hands:
        targets = patterns(hand, names)
        assert sorted(matched(targets, names)) == sorted(hand)
        # compressed-tensors' own reading of a target
        assert all(target.startswith("re:") for target in targets)
        assert all(re.compile(target[3:]) for target in targets)


def test_a_large_model_takes_few_lines() -> None:
    inner = ("q", "k", "v", "o", "gate", "up", "down")
    names = [f"model.language_model.layers.{n}.{k}" for n in range(32) for k in inner]
    names += [f"model.vision_tower.layers.{n}.{k}" for n in range(24) for k in inner]
    # one scheme each for attention and for the rest, by thirds of the blocks
    third = [n for n in names if int(n.split(".")[3]) < 10 and n[-1] in "qkvo"]
    assert len(patterns(third, names)) == 2
