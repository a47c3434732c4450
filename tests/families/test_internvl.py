"""InternVL beyond the contract: its processor, its published sizes, its refusals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import ModelError
from allocator.core.plugins import load
from allocator.families import family_of
from tests.families.checkpoints import (
    Decoder,
    Published,
    check_refused,
    check_sizes,
    tower,
)
from tests.families.processors import (
    IMAGE_AT,
    check_answers,
    check_state,
    padding,
    save_processor,
    two_samples,
    word_tokenizer,
)
from tests.states import made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model

INTERNVL: Family = load("allocator.families", "internvl")
NAMED = {
    "context_image_token": "<IMG_CONTEXT>",
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "video_token": "<video>",
}
SPECIAL = ("<img>", "</img>", "<video>", "<|im_start|>", "<|im_end|>")
# what the published template makes of a conversation with pictures
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<IMG_CONTEXT>\n{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# the first question
TOLD = (
    "<|im_start|>user\n<IMG_CONTEXT>\nwhat colour\n"
    "Answer the question using a single word or phrase.<|im_end|>\n"
    "<|im_start|>assistant\n"
)


@pytest.fixture(params=INTERNVL.variants)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    made(INTERNVL, folder, request.param)
    save_parts(folder)
    return INTERNVL.load(folder, "cpu")


def save_parts(folder: Path) -> None:
    from transformers import GotOcr2ImageProcessorPil

    save_processor(
        folder,
        word_tokenizer("<IMG_CONTEXT>", SPECIAL, extra_special_tokens=NAMED),
        GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, max_patches=4),
        {"image_seq_length": 4, "processor_class": "InternVLProcessor"},
        TEMPLATE,
    )


def test_pictures_become_tiles_and_prompts_are_padded_on_the_left(
    model: Model, tmp_path: Path
) -> None:
    state = model.inputs(two_samples(tmp_path))
    # 40 x 40 becomes 2 x 2 tiles and the whole, 64 x 32 two tiles and the whole
    assert state["pixel_values"].shape == (5 + 3, 3, 16, 16)
    assert (state["input_ids"] == IMAGE_AT).sum(1).tolist() == [5 * 4, 3 * 4]
    # two tiles of 4 image tokens less, four words more
    missing = 2 * 4 - 4
    assert padding(state) == [0, missing]
    words = model.processor.tokenizer.decode(state["input_ids"][1])
    assert words.startswith("<pad> " * missing + "<|im_start|> user <img> <IMG_")
    assert words.endswith("<|im_end|> <|im_start|> assistant")


def test_the_template_words_what_is_answered(model: Model, tmp_path: Path) -> None:
    samples = two_samples(tmp_path)
    assert model.worded(samples[0]) == TOLD
    check_answers(model, samples)


@pytest.mark.parametrize(
    "changed",
    [
        {"vision_feature_layer": -2},
        {"vision_feature_layer": 1},
        {"vision_config": {"norm_type": "rms_norm", "use_mean_pooling": False}},
    ],
)
def test_features_come_from_the_block_and_the_norm_that_the_configuration_names(
    changed: dict[str, Any], tmp_path: Path
) -> None:
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    state = made(INTERNVL, tmp_path)
    config = InternVLConfig.from_pretrained(tmp_path).to_dict()
    for key, value in changed.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    built = InternVLForConditionalGeneration(InternVLConfig(**config))
    built.save_pretrained(tmp_path)
    check_state(INTERNVL.load(tmp_path, "cpu"), state)


def published(kind: str, text: Decoder, parameters: int) -> Published:
    width = text.width
    return Published(
        {
            "model_type": "internvl",
            "vision_config": {"attention_bias": True},
            "text_config": text.config(model_type=kind, head_dim=text.dim),
        },
        parameters,
        {
            **tower(24, 1024, 4096),
            ("connector", "all"): 4096 * width + width**2,
            **text.weights,
        },
    )


# OpenGVLab/InternVL3-*-hf and InternVL3_5-8B-HF. The first count is the one published
# for InternVL2_5-1B, which has the same shapes; the others are their parts put together
# (InternViT-300M, Qwen2.5 with a cut vocabulary, Qwen3), which round to their names
PUBLISHED = {
    "3-1B": published("qwen2", Decoder(24, 896, 4864, 14, 2, 151674, 64), 938_193_024),
    "3-2B": published(
        "qwen2", Decoder(28, 1536, 8960, 12, 2, 151674, 128), 2_088_957_440
    ),
    "3-8B": published(
        "qwen2", Decoder(28, 3584, 18944, 28, 4, 151674, 128), 7_944_373_760
    ),
    "3.5-8B": published(
        "qwen3", Decoder(36, 4096, 12288, 32, 8, 151936, 128), 8_528_318_464
    ),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_models_have_their_published_sizes(size: str, tmp_path: Path) -> None:
    check_sizes(INTERNVL, PUBLISHED[size], tmp_path)


def test_a_language_part_of_experts_is_refused(tmp_path: Path) -> None:
    # as in InternVL3_5-30B-A3B-HF
    text = {"model_type": "qwen3_moe", "num_hidden_layers": 1}
    said = "is a 'qwen3_moe'; known are llama, qwen2"
    check_refused(INTERNVL, tmp_path, said, text_config=text)


def test_checkpoints_that_bring_their_own_code_are_refused(tmp_path: Path) -> None:
    made(INTERNVL, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "internvl_chat"}))
    with pytest.raises(ModelError, match=r"is a 'internvl_chat' model; supported are"):
        family_of(tmp_path)
