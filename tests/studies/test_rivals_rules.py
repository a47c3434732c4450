"""Rules of one line, and what tools are given."""

from __future__ import annotations

import json

import pytest
import torch

from allocator.core.spec import Linear
from studies.rivals.case import BUDGETS, IGNORED, MODELS, RESULTS, telling
from studies.rivals.rules import language_end

# a bit of every linear costs a byte
COSTS = {bits: bits for bits in (2, 3, 4, 5, 6, 8, 16)}


def model() -> list[Linear]:
    towers = [Linear(f"v{at}", "vision", at, "ff", 1, 1) for at in range(3)]
    return [*towers, *(Linear(f"l{at}", "language", at, "ff", 1, 1) for at in range(3))]


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (12, [2, 2, 2, 2, 2, 2]),
        (17.5, [2, 2, 2, 2, 2, 6]),  # 7 wanted, and there is no such width
        (18, [3, 3, 3, 3, 3, 3]),
        (23, [3, 3, 3, 3, 3, 8]),
    ],
)
def test_the_end_of_the_language_model_is_raised(
    room: float, expected: list[int]
) -> None:
    found = language_end(
        model(), dict.fromkeys(["v0", "v1", "v2", "l0", "l1", "l2"], COSTS), room
    )

    assert list(found.values()) == expected


def test_the_last_of_a_third_is_raised_first() -> None:
    linears = [Linear(f"l{at}", "language", at, "ff", 1, 1) for at in range(6)]

    found = language_end(linears, {x.name: COSTS for x in linears}, 12 + 3)

    # blocks 4 and 5 are the end
    assert list(found.values()) == [2, 2, 2, 2, 3, 4]


def test_logits_tell_of_the_tokens_of_replies() -> None:
    labels = torch.tensor([[IGNORED, IGNORED, 5], [IGNORED, 6, 7]])
    logits = torch.arange(6.0).reshape(2, 3, 1)

    # what stands at a place predicts the next one
    assert telling(logits, labels).flatten().tolist() == [1.0, 3.0, 4.0]


@pytest.mark.parametrize("model", MODELS)
def test_every_rival_gives_every_linear_a_width_within_every_budget(model: str) -> None:
    kept = [json.loads(file.read_text()) for file in RESULTS.glob(f"{model}-*.json")]

    assert {"modelopt gradient", "modelopt kl", "autoscheme"} <= {
        each["system"] for each in kept
    }
    names = set(
        kept[0].get("scores") or next(k["scores"] for k in kept if "scores" in k)
    )
    for each in kept:
        assert set(each["bits"]) == {f"{bpw}" for bpw in BUDGETS}
        for own in each["bits"].values():
            for widths in [own] if set(own) == names else own.values():
                assert set(widths) == names
                assert set(widths.values()) <= set(COSTS)
