"""Configurations made small, and inputs made for whatever comes of them."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoConfig
from transformers.models.auto import modeling_auto

from allocator.core.errors import ModelError
from allocator.families._made_inputs import made_inputs
from allocator.families._shrunk import shrunk
from allocator.families._shrunk_depth import shrink_depth
from allocator.families._shrunk_widths import shares, shrink_widths
from allocator.families._shrunk_words import shrink_words
from allocator.families.gemma3 import PLUGIN as GEMMA3
from studies.families.defaults import default_config

CLASSES = modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
# each lays out pixels, positions or blocks in a way of its own
SOME = (
    *("llava", "llava_next", "idefics3", "qwen2_5_vl", "qwen3_5_moe", "gemma3"),
    *("lfm2_vl", "minicpmv4_6", "molmo2", "mllama", "kosmos-2", "aya_vision"),
)


@cache
def small(name: str) -> Any:
    """A random module of a shrunk default configuration."""
    torch.manual_seed(0)
    module = getattr(transformers, CLASSES[name])(shrunk(default_config(name))).eval()
    for key, parameter in module.named_parameters():
        # gates and projections that begin as zeros hide pictures
        if not parameter.any() and not key.endswith("bias"):
            parameter.data.normal_(std=0.1)
    return module


@pytest.mark.parametrize("name", SOME)
def test_a_shrunk_model_is_small_sees_pictures_and_writes(name: str) -> None:
    module = small(name)
    assert 1e4 < sum(p.numel() for p in module.parameters()) < 1e6
    state = made_inputs(module)
    with torch.inference_mode():
        logits = module(**state).logits
        pixels = {k: -v for k, v in state.items() if v.is_floating_point()}
        other = module(**{**state, **pixels}).logits
        ids = module.generate(**state, max_new_tokens=2, do_sample=False)
    assert logits.isfinite().all()
    assert not torch.equal(logits, other)
    assert ids.shape[1] == state["input_ids"].shape[1] + 2
    # the second prompt is as long, of which one token is padding
    mask = state["attention_mask"]
    assert mask[0].all()
    assert mask[1].tolist() == [0, *[1] * (mask.shape[1] - 1)]


def test_equal_widths_stay_equal_and_heads_keep_their_ratio() -> None:
    config = shrunk(default_config("qwen3_vl"))
    vision, text = config.vision_config, config.text_config
    # 1152, 4096, 4304 and 22016: none is a few times another
    assert (vision.hidden_size, text.hidden_size) == (32, 64)
    assert (vision.intermediate_size, text.intermediate_size) == (96, 128)
    assert vision.out_hidden_size == text.hidden_size
    assert (text.num_attention_heads, text.num_key_value_heads) == (4, 4)
    # 32 x 128 is 4096, so 4 x 16 is 64, and [24, 20, 20] of 64 are [4, 2, 2] of 8
    assert text.head_dim == 16
    assert text.rope_parameters["mrope_section"] == [4, 2, 2]


def test_multiples_of_a_width_stay_multiples() -> None:
    plain: dict[str, Any] = {
        "hidden_size": 1280,
        "d_model": 3840,
        "ffn_dim": 5120,
        "out_dim": 4096,
    }
    shrink_widths(plain)
    # 3840 and 5120 are 3 and 4 times 1280; 4096 is only between them
    assert plain["d_model"] == 3 * plain["hidden_size"]
    assert plain["hidden_size"] < plain["d_model"] < plain["out_dim"]
    assert plain["out_dim"] < plain["ffn_dim"]
    assert all(size % 32 == 0 for size in plain.values())


def test_features_side_by_side_stay_as_wide_as_all_of_them() -> None:
    plain: dict[str, Any] = {
        "out_hidden_size": 6144,
        "vision_config": {"hidden_size": 1536, "merge_size": 2},
        "text_config": {"hidden_size": 8192},
    }
    shrink_widths(plain)
    assert plain["out_hidden_size"] == 4 * plain["vision_config"]["hidden_size"]


@pytest.mark.parametrize(
    ("heads", "wanted"),
    [((32, 32), (4, 4)), ((32, 8), (4, 2)), ((32, 1), (4, 1)), ((3, 3), (3, 3))],
)
def test_heads_share_keys_as_they_did(
    heads: tuple[int, int], wanted: tuple[int, int]
) -> None:
    plain: dict[str, Any] = {
        "hidden_size": 4096,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
    }
    shrink_widths(plain)
    assert (plain["num_attention_heads"], plain["num_key_value_heads"]) == wanted


@pytest.mark.parametrize(
    ("parts", "total", "wanted"),
    [
        ([16, 24, 24], 8, [2, 3, 3]),
        ([24, 20, 20], 8, [4, 2, 2]),
        ([22, 22, 20], 16, [5, 5, 6]),
        ([16, 16, 16, 16], 8, [2, 2, 2, 2]),
    ],
)
def test_parts_of_a_head_keep_their_ratios(
    parts: list[int], total: int, wanted: list[int]
) -> None:
    assert shares(parts, total) == wanted


def test_a_block_of_every_kind_is_kept() -> None:
    plain: dict[str, Any] = {
        "num_hidden_layers": 8,
        "layer_types": ["slide", "slide", "slide", "full"] * 2,
        "first_k_dense_replace": 1,
        "num_kv_shared_layers": 2,
    }
    shrink_depth(plain)
    # dense, sparse, full, and of those that share keys one of each type
    assert plain == {
        "num_hidden_layers": 5,
        "layer_types": ["slide", "slide", "full", "slide", "full"],
        "first_k_dense_replace": 1,
        "num_kv_shared_layers": 2,
    }


def test_blocks_that_are_read_are_kept_and_numbered_anew() -> None:
    plain: dict[str, Any] = {
        "vision_feature_layer": [-2, -5, 6],
        "vision_config": {"num_hidden_layers": 24, "deepstack_visual_indexes": [8]},
        "text_config": {"num_hidden_layers": 40, "cross_attention_layers": [3, 8, 13]},
    }
    shrink_depth(plain)
    tower, text = plain["vision_config"], plain["text_config"]
    # outcomes of blocks 22, 19 and 5, of which 0, 6, 8, 20 and 23 go along
    assert tower["num_hidden_layers"] == 8
    assert tower["deepstack_visual_indexes"] == [3]
    assert plain["vision_feature_layer"] == [-2, -4, 2]
    assert text == {"num_hidden_layers": 2, "cross_attention_layers": [1]}


def test_numbers_of_blocks_are_no_counts_whatever_they_are_called() -> None:
    plain: dict[str, Any] = {
        "vision_feature_layers": [-2, 6],
        "spatial_target_layers": [12, 15],
        "vision_config": {"num_hidden_layers": 24},
        "text_config": {"num_hidden_layers": 32},
    }
    shrink_depth(plain)
    # 5, 6, 22 and 23 of the tower, if 0 is its first block's input or its outcome
    assert plain["vision_feature_layers"] == [-2, 2]
    # 0, 11, 12, 14 and 15
    assert plain["spatial_target_layers"] == [2, 4]


def test_a_block_that_is_read_by_its_number_is_not_the_last_one() -> None:
    plain: dict[str, Any] = {"depth": 27, "deepstack_visual_indexes": [5]}
    shrink_depth(plain)
    # of 0, 5 and 26 the second
    assert plain == {"depth": 3, "deepstack_visual_indexes": [1]}


def test_what_is_inserted_between_blocks_stays_between_them() -> None:
    plain: dict[str, Any] = {
        "insert_layer_id": 6,
        "vision_config": {"depth": 27, "insert_layer_id": 6},
    }
    shrink_depth(plain)
    # of 0, 5, 6, 7 and 26 the third
    assert plain["vision_config"] == {"depth": 5, "insert_layer_id": 2}
    assert plain["insert_layer_id"] == 2


def test_tokens_keep_their_order_and_are_inside() -> None:
    plain: dict[str, Any] = {
        "image_token_id": 151655,
        "video_token_id": 151656,
        "text_config": {"vocab_size": 151655, "eos_token_id": [2, 151645]},
    }
    shrink_words(plain)
    # near ones are as near, far ones 16 away; room is made for what was outside
    assert plain == {
        "image_token_id": 58,
        "video_token_id": 59,
        "text_config": {"vocab_size": 60, "eos_token_id": [2, 48]},
    }


def test_few_experts_are_left_and_two_are_chosen() -> None:
    text = shrunk(default_config("kimi_k25")).text_config
    assert (text.n_routed_experts, text.num_experts_per_tok) == (4, 2)
    assert (text.n_group, text.topk_group) == (2, 1)
    # the first block is dense
    assert text.num_hidden_layers == 2
    assert text.first_k_dense_replace == 1


def test_what_is_shrunk_stays_and_the_original_does_too() -> None:
    config = default_config("gemma3")
    before = config.to_dict()
    once = shrunk(config)
    assert config.to_dict() == before
    assert shrunk(once).to_dict() == once.to_dict()


def test_a_tiny_configuration_keeps_its_sizes() -> None:
    config, _ = GEMMA3.by_name["gemma3"].tiny()  # type: ignore[attr-defined]
    wanted = config.to_dict()
    wanted["text_config"]["max_position_embeddings"] = 512
    assert shrunk(config).to_dict() == wanted


def test_a_published_configuration_is_shrunk_as_well() -> None:
    folder = Path(__file__).parents[2] / "studies" / "scale" / "configs"
    config = AutoConfig.from_pretrained(folder / "qwen2.5-vl-7b-instruct")
    found = shrunk(config)
    # 1280, 3420, 3584 and 18944; heads are 28 and 4, of 128; [16, 24, 24] of 64
    assert config.text_config.hidden_size == 3584
    assert (found.text_config.hidden_size, found.vision_config.hidden_size) == (96, 32)
    assert found.vision_config.out_hidden_size == 96
    assert found.text_config.num_attention_heads == 4
    assert found.text_config.num_key_value_heads == 2
    assert found.text_config.rope_parameters["mrope_section"] == [4, 4, 4]
    module = getattr(transformers, CLASSES[found.model_type])(found)
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_inputs_are_of_the_type_of_the_module() -> None:
    module = deepcopy(small("qwen3_5_moe")).bfloat16()
    state = made_inputs(module)
    assert state["pixel_values"].dtype == torch.bfloat16
    assert state["input_ids"].dtype == torch.long


def test_what_transformers_refuses_is_named() -> None:
    class Odd(SimpleNamespace):
        def to_dict(self) -> dict[str, Any]:
            return {"model_type": "odd"}

        @classmethod
        def from_dict(cls, _: dict[str, Any]) -> None:
            raise ValueError("heads have to be odd")

    with pytest.raises(ModelError, match=r"a 'odd' .* be shrunk: heads"):
        shrunk(Odd(model_type="odd"))


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        # 4 x 4 patches, and twice as many of each picture where 4 are merged
        ("llava", [16, 16]),
        ("qwen3_vl", [8, 8]),
        # a grid of 2 x 1 tiles, each row of 4 patches with an end, and the whole
        ("llava_next", [2 * 16 + 4 + 16] * 2),
        ("gemma3", [4, 4]),
    ],
)
def test_there_are_as_many_image_tokens_as_features(
    name: str, tokens: list[int]
) -> None:
    module = small(name)
    state = made_inputs(module)
    image = module.config.image_token_id
    assert (state["input_ids"] == image).sum(1).tolist() == tokens


def test_the_last_stage_of_a_tower_sees_several_patches() -> None:
    module = small("florence2")
    strides = module.config.vision_config.patch_stride
    assert made_inputs(module)["pixel_values"].shape[-1] == 4 * math.prod(strides)


def test_inputs_are_the_same_each_time() -> None:
    module = small("qwen3_5_moe")
    once, again = made_inputs(module), made_inputs(module)
    assert once.keys() == again.keys()
    assert all(torch.equal(once[key], again[key]) for key in once)


def test_a_model_that_takes_no_pictures_is_named() -> None:
    module = small("mistral4")
    with pytest.raises(ModelError, match="'mistral4' model takes no pictures that"):
        made_inputs(module)
