"""SmolVLM and Idefics3 beyond the contract: processor, published sizes, refusals."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

from allocator.core.errors import ModelError, SpecError
from allocator.core.plugins import load
from allocator.families import _family
from tests.families.processors import (
    IMAGE_AT,
    check_replies,
    check_state,
    save_processor,
    two_samples,
    word_tokenizer,
)
from tests.states import made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model, Sample

SMOLVLM: Family = load("allocator.families", "smolvlm")
CLASSES = {"idefics3": "Idefics3", "smolvlm": "SmolVLM"}
TILES = tuple(f"<row_{row}_col_{col}>" for row in (1, 2) for col in (1, 2))
SPECIAL = (
    "<fake_token_around_image>",
    "<global-img>",
    *TILES,
    "<end_of_utterance>",
    "<|im_start|>",
)


def save_tiny(folder: Path, variant: str) -> None:
    """A tiny checkpoint whose pictures are cut into tiles of 16 x 16 pixels."""
    import transformers
    from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

    made(SMOLVLM, folder, variant)
    kind = getattr(transformers, f"{CLASSES[variant]}ImageProcessorPil")
    save_processor(
        folder,
        word_tokenizer("<image>", SPECIAL),
        kind(size={"longest_edge": 32}, max_image_size={"longest_edge": 16}),
        {"image_seq_len": 4, "processor_class": f"{CLASSES[variant]}Processor"},
        DEFAULT_CHAT_TEMPLATE,
    )


@pytest.fixture(params=SMOLVLM.variants)
def model(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Model:
    # a package that only counts frames of videos
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", str)
    folder = tmp_path / "model"
    save_tiny(folder, request.param)
    return SMOLVLM.load(folder, "cpu")


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return two_samples(tmp_path)


def test_pictures_become_tiles_and_prompts_are_padded_on_the_left(
    model: Model, samples: list[Sample]
) -> None:
    state = model.inputs(samples)
    # 40 x 40 becomes 2 x 2 tiles and the whole, 64 x 32 one row of two and the whole
    assert state["pixel_values"].shape == (2, 5, 3, 16, 16)
    assert state["pixel_attention_mask"].any(-1).any(-1).sum(1).tolist() == [5, 3]
    shown = state["input_ids"] == IMAGE_AT
    assert shown.sum(1).tolist() == [5 * 4, 3 * 4]
    # two tiles less, each with 4 image tokens, a mark around it and its place, but
    # four words more
    missing = 2 * (4 + 2) - 4
    assert (state["attention_mask"][0] == 1).all()
    assert state["attention_mask"][1].tolist()[: missing + 1] == [0] * missing + [1]
    words = model.processor.tokenizer.decode(state["input_ids"][1])
    assert words.startswith("<pad> " * missing + "<|im_start|> user <fake_token")
    assert words.endswith("<end_of_utterance> assistant")


def test_questions_are_put_into_the_template_of_the_checkpoint(
    model: Model, samples: list[Sample]
) -> None:
    assert model.worded(samples[0]) == (
        "<|im_start|>User:<image>what colour\n"
        "Answer the question using a single word or phrase.<end_of_utterance>\n"
        "Assistant:"
    )


def test_the_stages_take_what_the_processor_gives(
    model: Model, samples: list[Sample]
) -> None:
    check_state(model, model.inputs(samples))
    check_state(model, model.inputs(samples, answered=True))


def test_the_masks_of_the_pixels_are_gone_once_they_are_features(
    model: Model, samples: list[Sample]
) -> None:
    state = model.inputs(samples)
    for stage in model.stages():
        if stage.component in model.prefix:
            state = stage.run(state)
    assert set(state) == {"input_ids", "attention_mask", "features"}


def test_replies_are_those_of_transformers_on_pictures_too(
    model: Model, samples: list[Sample]
) -> None:
    check_replies(model, samples, model.inputs(samples))


@pytest.mark.skipif(find_spec("num2words") is not None, reason="num2words is here")
def test_a_package_that_the_processor_wants_is_named(tmp_path: Path) -> None:
    save_tiny(tmp_path, "smolvlm")
    model: Any = SMOLVLM.load(tmp_path, "cpu")
    with pytest.raises(ModelError, match=r"`num2words` is required") as raised:
        _ = model.processor
    assert "\n" not in str(raised.value)


# the towers of HuggingFaceTB/SmolVLM-256M-Instruct and -500M-Instruct, and of
# SmolVLM-Instruct and HuggingFaceM4/Idefics3-8B-Llama3
BASE = {
    "model_type": "siglip_vision_model",
    "use_base_siglip": True,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 512,
    "patch_size": 16,
}
SO400M = {
    "model_type": "idefics3",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 364,
    "patch_size": 14,
}


def config_of(
    vision: dict[str, Any], text: tuple[int, ...], scale: int
) -> dict[str, Any]:
    names = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
    )
    return {
        "model_type": "idefics3",
        "vision_config": vision,
        "text_config": {"model_type": "llama", **dict(zip(names, text, strict=True))},
        "scale_factor": scale,
        "tie_word_embeddings": False,
    }


# 256M: the count that users of the checkpoint report. The others are their parts put
# together (SigLIP, SmolLM2 or Llama 3, a head of its own), which round to their names
PUBLISHED = {
    "256M": (
        config_of(BASE, (576, 1536, 30, 9, 3, 49280), 4),
        256_484_928,
        {
            "vision": 12 * (4 * 768**2 + 2 * 768 * 3072),
            "connector": 16 * 768 * 576,
            # three of nine heads of 64 have keys and values
            "language": 30 * (2 * 576**2 + 2 * 576 * 192 + 3 * 576 * 1536),
        },
    ),
    "500M": (
        config_of(BASE, (960, 2560, 32, 15, 5, 49280), 4),
        507_482_304,
        {
            "vision": 12 * (4 * 768**2 + 2 * 768 * 3072),
            "connector": 16 * 768 * 960,
            "language": 32 * (2 * 960**2 + 2 * 960 * 320 + 3 * 960 * 2560),
        },
    ),
    "2.2B": (
        config_of(
            {**SO400M, "image_size": 384}, (2048, 8192, 24, 32, 32, 49155), scale=3
        ),
        2_246_272_880,
        {
            "vision": 27 * (4 * 1152**2 + 2 * 1152 * 4304),
            "connector": 9 * 1152 * 2048,
            "language": 24 * (4 * 2048**2 + 3 * 2048 * 8192),
        },
    ),
    "8B": (
        config_of(SO400M, (4096, 14336, 32, 32, 8, 128259), scale=2),
        8_462_086_384,
        {
            "vision": 27 * (4 * 1152**2 + 2 * 1152 * 4304),
            "connector": 4 * 1152 * 4096,
            "language": 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336),
        },
    ),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_models_have_their_published_sizes(size: str, tmp_path: Path) -> None:
    config, parameters, weights = PUBLISHED[size]
    (tmp_path / "config.json").write_text(json.dumps(config))
    spec = SMOLVLM.spec(tmp_path, "component")
    assert spec.parameters == parameters
    assert {g.component: g.weights for g in spec.groups} == weights
    assert [left.name for left in spec.left_out] == ["lm_head"]


def test_a_linear_that_nobody_placed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(SMOLVLM, tmp_path)
    build = _family.build_on_meta

    def with_a_resampler(*args: Any) -> Any:
        module = build(*args)
        module.model.connector.resampler = nn.Linear(2, 2)
        return module

    monkeypatch.setattr(_family, "build_on_meta", with_a_resampler)
    with pytest.raises(SpecError, match=r"'model\.connector\.resampler'"):
        SMOLVLM.spec(tmp_path)


def test_another_language_part_is_refused(tmp_path: Path) -> None:
    made(SMOLVLM, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    # its norms scale by one plus their weight: nothing folds into them
    config["text_config"] = {"model_type": "gemma", "head_dim": 16}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"is a 'gemma'; known are llama"):
        SMOLVLM.spec(tmp_path)
