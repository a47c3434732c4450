"""InternVL beyond the contract: its processor, its published sizes, its refusals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from allocator.core.errors import ModelError, SpecError
from allocator.core.plugins import load
from allocator.families import _family, family_of
from tests.families.processors import (
    IMAGE_AT,
    check_replies,
    check_state,
    save_processor,
    two_samples,
    word_tokenizer,
)
from tests.states import logits_of, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model, Sample

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


@pytest.fixture(params=INTERNVL.variants)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    from transformers import GotOcr2ImageProcessorPil

    folder = tmp_path / "model"
    made(INTERNVL, folder, request.param)
    save_processor(
        folder,
        word_tokenizer("<IMG_CONTEXT>", SPECIAL, extra_special_tokens=NAMED),
        GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, max_patches=4),
        {"image_seq_length": 4, "processor_class": "InternVLProcessor"},
        TEMPLATE,
    )
    return INTERNVL.load(folder, "cpu")


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return two_samples(tmp_path)


def test_pictures_become_tiles_and_prompts_are_padded_on_the_left(
    model: Model, samples: list[Sample]
) -> None:
    state = model.inputs(samples)
    # 40 x 40 becomes 2 x 2 tiles and the whole, 64 x 32 two tiles and the whole
    assert state["pixel_values"].shape == (5 + 3, 3, 16, 16)
    assert (state["input_ids"] == IMAGE_AT).sum(1).tolist() == [5 * 4, 3 * 4]
    # two tiles of 4 image tokens less, four words more
    missing = 2 * 4 - 4
    assert (state["attention_mask"][0] == 1).all()
    assert state["attention_mask"][1].tolist()[: missing + 1] == [0] * missing + [1]
    words = model.processor.tokenizer.decode(state["input_ids"][1])
    assert words.startswith("<pad> " * missing + "<|im_start|> user <img> <IMG_")
    assert words.endswith("<|im_end|> <|im_start|> assistant")


def test_questions_are_put_into_the_template_of_the_checkpoint(
    model: Model, samples: list[Sample]
) -> None:
    assert model.worded(samples[0]) == (
        "<|im_start|>user\n<IMG_CONTEXT>\nwhat colour\n"
        "Answer the question using a single word or phrase.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_stages_take_what_the_processor_gives(
    model: Model, samples: list[Sample]
) -> None:
    check_state(model, model.inputs(samples))
    check_state(model, model.inputs(samples, answered=True))


def test_replies_are_those_of_transformers_on_pictures_too(
    model: Model, samples: list[Sample]
) -> None:
    check_replies(model, samples, model.inputs(samples))


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
    model = INTERNVL.load(tmp_path, "cpu")
    with torch.inference_mode():
        wanted = model.module(**state).logits
    seen = state["attention_mask"].bool()
    torch.testing.assert_close(logits_of(model, state)[seen], wanted[seen])


def config_of(text: tuple[str | int, ...], **more: int) -> dict[str, Any]:
    names = (
        "model_type",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
    )
    return {
        "model_type": "internvl",
        "vision_config": {"attention_bias": True},
        "text_config": {**dict(zip(names, text, strict=True)), **more},
        "tie_word_embeddings": False,
    }


VIT = 24 * (4 * 1024**2 + 2 * 1024 * 4096)
# OpenGVLab/InternVL3-*-hf and InternVL3_5-8B-HF. The first count is the one published
# for InternVL2_5-1B, which has the same shapes; the others are their parts put together
# (InternViT-300M, Qwen2.5 with a cut vocabulary, Qwen3), which round to their names
PUBLISHED = {
    "3-1B": (
        config_of(("qwen2", 896, 4864, 24, 14, 2, 151674)),
        938_193_024,
        {
            "vision": VIT,
            "connector": 4096 * 896 + 896**2,
            # two of fourteen heads of 64 have keys and values
            "language": 24 * (2 * 896**2 + 2 * 896 * 128 + 3 * 896 * 4864),
        },
    ),
    "3-2B": (
        config_of(("qwen2", 1536, 8960, 28, 12, 2, 151674)),
        2_088_957_440,
        {
            "vision": VIT,
            "connector": 4096 * 1536 + 1536**2,
            "language": 28 * (2 * 1536**2 + 2 * 1536 * 256 + 3 * 1536 * 8960),
        },
    ),
    "3-8B": (
        config_of(("qwen2", 3584, 18944, 28, 28, 4, 151674)),
        7_944_373_760,
        {
            "vision": VIT,
            "connector": 4096 * 3584 + 3584**2,
            "language": 28 * (2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18944),
        },
    ),
    "3.5-8B": (
        config_of(("qwen3", 4096, 12288, 36, 32, 8, 151936), head_dim=128),
        8_528_318_464,
        {
            "vision": VIT,
            "connector": 4096 * 4096 + 4096**2,
            "language": 36 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 12288),
        },
    ),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_models_have_their_published_sizes(size: str, tmp_path: Path) -> None:
    config, parameters, weights = PUBLISHED[size]
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = INTERNVL.spec(tmp_path, "component")
    assert spec.parameters == parameters
    assert {g.component: g.weights for g in spec.groups} == weights
    assert [left.name for left in spec.left_out] == ["lm_head"]


def test_a_linear_that_nobody_placed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(INTERNVL, tmp_path)
    build = _family.build_on_meta

    def with_a_third_layer(*args: Any) -> Any:
        module = build(*args)
        module.model.multi_modal_projector.linear_3 = nn.Linear(2, 2)
        return module

    monkeypatch.setattr(_family, "build_on_meta", with_a_third_layer)
    with pytest.raises(SpecError, match=r"'model\.multi_modal_projector\.linear_3'"):
        INTERNVL.spec(tmp_path)


def test_a_language_part_of_experts_is_refused(tmp_path: Path) -> None:
    made(INTERNVL, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    # as in InternVL3_5-30B-A3B-HF
    config["text_config"] = {"model_type": "qwen3_moe", "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"is a 'qwen3_moe'; known are llama, qwen2"):
        INTERNVL.spec(tmp_path)


def test_checkpoints_that_bring_their_own_code_are_refused(tmp_path: Path) -> None:
    made(INTERNVL, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "internvl_chat"}))
    with pytest.raises(ModelError, match=r"is a 'internvl_chat' model; supported are"):
        family_of(tmp_path)
