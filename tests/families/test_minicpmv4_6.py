"""MiniCPM-V 4.6 beyond the contract: its processor, its size, its refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.plugins import load
from tests.families.checkpoints import Published, check_refused, check_sizes, tower
from tests.families.processors import (
    check_answers,
    padding,
    save_processor,
    two_samples,
    word_tokenizer,
)
from tests.states import made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model

FAMILY: Family = load("allocator.families", "minicpmv4_6")
# the published one begins a thought unless it is told not to, and ends it then at once
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<|image_pad|>' }}"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ROLES = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<image>",
    "image_end_token": "</image>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
}


def save_parts(folder: Path) -> None:
    from transformers import MiniCPMV4_6ImageProcessorPil

    marks = [*ROLES.values(), "<|im_start|>", "<|im_end|>"][1:]
    words = word_tokenizer("<|image_pad|>", marks, extra_special_tokens=ROLES)
    pictures = MiniCPMV4_6ImageProcessorPil(
        patch_size=4, scale_resolution=32, max_slice_nums=4
    )
    settings = {"processor_class": "MiniCPMV4_6Processor"}
    save_processor(folder, words, pictures, settings, TEMPLATE)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    made(FAMILY, folder)
    save_parts(folder)
    return FAMILY.load(folder, "cpu")


def test_two_pictures_of_different_shapes_are_answered(
    model: Model, tmp_path: Path
) -> None:
    samples = two_samples(tmp_path)
    state = model.inputs(samples)
    shown = state["input_ids"] == 4
    # both as they are and in two slices; sixteen patches make one token
    whole, wide = [8, 8], [4, 12]
    sizes = [whole, wide, wide, wide, whole, whole]
    assert state["target_sizes"].tolist() == sizes
    assert shown.sum(1).tolist() == [4 + 3 + 3, 3 + 4 + 4]
    # all patches stand in one row, each four pixels wide
    assert state["pixel_values"].shape == (1, 3, 4, 4 * 16 * 21)
    # "is this this this" is four words longer
    assert padding(state) == [1 + 4, 0]
    check_answers(model, samples)


# openbmb/MiniCPM-V-4.6 as its config.json has it; 1,300,428,016: what Hugging Face
# counts in its file
PUBLISHED = Published(
    {
        "model_type": "minicpmv4_6",
        "image_size": 1120,
        "insert_layer_id": 6,
        "image_token_id": 248056,
        "video_token_id": 248057,
        "tie_word_embeddings": True,
        "vision_config": {
            "model_type": "minicpmv4_6_vision",
            "hidden_size": 1152,
            "image_size": 980,
            "intermediate_size": 4304,
            "num_attention_heads": 16,
            "num_hidden_layers": 27,
            "patch_size": 14,
        },
        "text_config": {
            "model_type": "qwen3_5_text",
            "head_dim": 256,
            "hidden_size": 1024,
            "intermediate_size": 3584,
            "linear_key_head_dim": 128,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 16,
            "linear_value_head_dim": 128,
            "num_attention_heads": 8,
            "num_hidden_layers": 24,
            "num_key_value_heads": 2,
            "vocab_size": 248094,
        },
    },
    1_300_428_016,
)


def test_the_published_size_comes_from_the_configuration_alone(tmp_path: Path) -> None:
    blocks = tower(27, 1152, 4304)
    # what merges within the tower attends as a block does, and reads four patches
    merger = 4 * 1152**2, 4 * 1152 * 4 * 4304 + 4 * 4304 * 1152
    weights = {
        ("vision", "attn"): blocks["vision", "attn"] + merger[0],
        ("vision", "ff"): blocks["vision", "ff"] + merger[1],
        ("connector", "all"): (4 * 1152) ** 2 + 4 * 1152 * 1024,
        # of four blocks three have a state of 16 heads of 128, which is gated, and one
        # has 8 heads of 256, which are gated too, and 2 of keys and values
        ("language", "attn"): 1024 * (18 * 5 * 2048 + 6 * (3 * 2048 + 2 * 512)),
        ("language", "ff"): 24 * 3 * 1024 * 3584,
    }
    gates = [
        f"model.language_model.layers.{block}.linear_attn.in_proj_{name}"
        for block in range(24)
        if block % 4 < 3
        for name in "ba"
    ]
    published = replace(PUBLISHED, weights=weights, left_out=[*gates, "lm_head"])
    check_sizes(FAMILY, published, tmp_path)


def test_patches_merged_elsewhere_are_refused(tmp_path: Path) -> None:
    check_refused(FAMILY, tmp_path, "insert_layer_id 1; read are", insert_layer_id=1)
    check_refused(FAMILY, tmp_path, "downsample_mode '4x'", downsample_mode="4x")
