from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.plugins import load
from allocator.core.weights import key_of
from quant.calibration import attended, calibrate
from quant.streaming import Spool, in_memory
from tests.states import TITLES, VARIANTS, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import State
    from quant.calibration import Observed

EACH = pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=TITLES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def observed(
    model: Any, state: State, folder: Path, limit: int = 2**28
) -> dict[str, Observed]:
    """Statistics of every sibling set, by its first linear; inputs seen twice."""
    states = Spool(folder, "cpu", limit)
    states.append(dict(state))
    states.append(dict(state))
    passing = calibrate(model, states, lambda stage: stage.siblings, model.stages())
    return {each.siblings.names[0]: each for stage in passing for each in stage}


def test_padding_is_not_counted(folder: Path) -> None:
    family = load("allocator.families", "llava")
    state = made(family, folder)
    found = observed(family.load(folder, "cpu"), state, folder)
    tokens = {name: each.inputs.tokens for name, each in found.items()}
    # twice two prompts of eight tokens, one of them padding; five tokens an image
    assert tokens["model.language_model.layers.0.mlp.gate_proj"] == 2 * 15
    assert tokens["model.vision_tower.encoder.layers.0.mlp.fc1"] == 2 * 10


@pytest.mark.parametrize(
    "shape", [(2, 3, 4), (6, 4), (1, 6, 4), (2, 1, 3, 4), (2, 3, 1, 4)]
)
def test_padding_is_left_out_however_tokens_lie(shape: tuple[int, ...]) -> None:
    tokens = torch.arange(24.0).view(6, 4)
    mask = torch.tensor([[False, True, True], [True, True, False]])
    found = attended(tokens.view(shape), mask)
    assert torch.equal(found.reshape(-1, 4), tokens[1:5])


def test_heads_of_a_token_are_read_with_it() -> None:
    mask = torch.tensor([[False, True, True], [True, False, False]])
    x = torch.arange(24.0).view(2, 2, 3, 2)
    expected = torch.stack([x[0, :, 1], x[0, :, 2], x[1, :, 0]])
    assert torch.equal(attended(x, mask), expected)


@EACH
def test_a_mapped_model_gives_the_statistics_of_a_loaded_one(
    name: str, variant: str, folder: Path
) -> None:
    family = load("allocator.families", name)
    state = made(family, folder, variant)
    loaded = observed(family.load(folder, "cpu"), state, folder)
    # states that do not fit are moved to disk
    mapped = observed(family.load(folder, "cpu", mapped=True), state, folder, limit=0)
    assert loaded.keys() == mapped.keys()
    for key, each in loaded.items():
        assert torch.equal(each.inputs.hessian, mapped[key].inputs.hessian)
        assert torch.equal(each.inputs.mean_abs, mapped[key].inputs.mean_abs)


@EACH
def test_a_mapped_model_holds_the_weights_that_are_stored(
    name: str, variant: str, folder: Path
) -> None:
    family = load("allocator.families", name)
    made(family, folder, variant)
    loaded, mapped = family.load(folder, "cpu"), family.load(folder, "cpu", mapped=True)
    stored = dict(mapped.module.named_parameters())
    # transformers keeps BLIP-2's Q-Former and T5's wo in float32, whatever is stored
    kept = re.compile(r"qformer\.|query_tokens$|.*\.wo\.weight$")
    assert all(
        weight.dtype == torch.float16 or kept.match(key)
        for key, weight in stored.items()
    )
    for key, weight in loaded.module.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, stored[key].float())
    # and the same ones after a stage has run
    before = {key: weight.data_ptr() for key, weight in stored.items()}
    for stage in mapped.stages():
        with in_memory(mapped.module, stage.uses, "cpu"):
            pass
    assert before == {k: w.data_ptr() for k, w in mapped.module.named_parameters()}


@EACH
def test_every_parameter_is_used_by_one_stage_or_by_none_that_quantizes(
    name: str, variant: str, folder: Path
) -> None:
    family = load("allocator.families", name)
    made(family, folder, variant)
    model = family.load(folder, "cpu", mapped=True)
    for stage in model.stages():
        with in_memory(model.module, stage.uses, "cpu"):
            loaded = {
                key
                # tied weights by each of their names
                for key, weight in model.module.named_parameters(remove_duplicate=False)
                if weight.dtype == torch.float32
            }
        weights = {key_of(model.module, name) for name in stage.linears}
        assert weights <= loaded
        assert loaded, stage.name


def test_a_spool_gives_back_what_it_was_given(folder: Path) -> None:
    states = [
        {
            "hidden": torch.randn(3, 200, 100).to(dtype),
            "mask": torch.rand(3, 200, 200) > 0.5,
            "turns": (torch.ones(2), torch.zeros(2)),
            "nothing": None,
        }
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    ]
    for limit in (0, 300_000, 2**30):
        spool = Spool(folder, "cpu", limit)
        for state in states:
            spool.append(state)
        spool[1] = states[2]
        for at, wanted in ((0, states[0]), (1, states[2]), (2, states[2])):
            found = spool[at]
            assert found.keys() == wanted.keys()
            assert torch.equal(found["hidden"], wanted["hidden"])
            assert torch.equal(found["mask"], wanted["mask"])
            assert found["turns"] == wanted["turns"]
            assert found["nothing"] is None
        # nothing that a kill would leave behind
        assert not list(folder.iterdir())


def test_what_is_no_word_has_no_padding() -> None:
    # two prompts of three tokens read five features of a picture each
    mask = torch.tensor([[True, True, True], [False, True, True]])
    features = torch.randn(2, 5, 4)
    assert torch.equal(attended(features, mask), features.flatten(0, 1))
