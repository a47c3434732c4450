"""Molmo 2 beyond the contract: sizes, what its files hold, shared pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from allocator.core.plugins import load
from allocator.core.ports import Decoding
from allocator.families._sharing import PICTURE
from tests.families.checkpoints import Decoder, Published, check_sizes, tower
from tests.states import logits_of, made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

FAMILY: Family = load("allocator.families", "molmo2")
WIDE, TEXT = 1152, Decoder(36, 4096, 12288, 32, 8, 151936, 128)
# as transformers has allenai/Molmo2-8B, the adapter as wide as its language model. Its
# files have a tower of 25 blocks, of 27 that config.json says. No count of them was
# found: it is worked out here
CONFIG: dict[str, Any] = {
    "model_type": "molmo2",
    "vit_config": {"num_hidden_layers": 27},
    "adapter_config": {
        "vit_layers": [-3, -9],
        "intermediate_size": 12288,
        "text_hidden_size": 4096,
    },
    "text_config": {"model_type": "molmo2_text"},
}


def test_the_published_size_comes_from_the_configuration_alone(tmp_path: Path) -> None:
    # patches of 14 x 14, 27 x 27 places; two blocks' outcomes side by side are pooled
    weights = tower(25, WIDE, 4304) | TEXT.weights
    pooling = 3 * 2 * WIDE**2 + WIDE**2
    weights["connector", "all"] = pooling + 2 * WIDE * 12288 + 12288 * 4096
    seen = 25 * (4 * WIDE + 4304 + WIDE + 4 * WIDE) + WIDE * (3 * 14**2 + 1 + 27**2)
    read = 36 * (2 * 4096 + 2 * 128) + 4096 + 4096 * (151936 + 128 + 151936)
    count = sum(weights.values()) + seen + 4 * WIDE + read
    left = ("model.vision_tower.patch_embedding", "lm_head")
    check_sizes(FAMILY, Published(CONFIG, count, weights, left), tmp_path)


def test_published_files_hold_several_matrices_in_one(tmp_path: Path) -> None:
    state = made(FAMILY, tmp_path, "olmo")
    stored = load_file(tmp_path / "model.safetensors")
    fused = stored["model.transformer.blocks.0.self_attn.att_proj.weight"]
    assert fused.shape == (64 + 2 * 32, 64)
    for mapped in (False, True):
        module = FAMILY.load(tmp_path, "cpu", mapped=mapped).module
        keys = module.model.language_model.layers[0].self_attn.k_proj.weight
        assert torch.equal(keys, fused[64:96].to(keys))
    # norms stand behind attention and feed-forward there: none takes a scale
    model = FAMILY.load(tmp_path, "cpu")
    folds = {s.fold for stage in model.stages() for s in stage.siblings if s.fold}
    assert not any("language_model" in f and f.endswith("norm") for f in folds)
    assert logits_of(model, state).isfinite().all()


@pytest.mark.parametrize("variant", FAMILY.variants)
def test_a_shared_picture_is_read_as_that_of_each_question(
    variant: str, tmp_path: Path
) -> None:
    state = made(FAMILY, tmp_path, variant)
    model: Any = FAMILY.load(tmp_path, "cpu")
    # both questions about each picture; those about the second one come first
    texts = ("input_ids", "attention_mask", "mm_token_type_ids")
    asked = {key: state[key][[0, 1, 0, 1]] for key in texts}
    asked["input_ids"][2:, -1] = torch.tensor([11, 12])
    shared = {**state, **asked, PICTURE: torch.tensor([1, 1, 0, 0])}
    apart = {**state, **asked}
    crops, pooled = state["pixel_values"], state["image_token_pooling"]
    apart["pixel_values"] = torch.cat([crops[2:]] * 2 + [crops[:2]] * 2)
    own = pooled[:6]
    apart["image_token_pooling"] = torch.cat(
        [own + 32 * n * (own >= 0) for n in range(4)]
    )
    apart["image_grids"] = state["image_grids"][[0] * 4]
    seen = asked["attention_mask"].bool()
    found, wanted = (logits_of(model, each) for each in (shared, apart))
    torch.testing.assert_close(found[seen], wanted[seen])
    replies = (
        model.reply_ids(prefixed(model, each), Decoding(4)) for each in (shared, apart)
    )
    assert torch.equal(*replies)
