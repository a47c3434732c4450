"""SmolVLM and Idefics3 beyond the contract: processor, published sizes, refusals."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import ModelError
from allocator.core.plugins import load
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
    padding,
    save_processor,
    two_samples,
    word_tokenizer,
)
from tests.states import made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model

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
# the first question
TOLD = (
    "<|im_start|>User:<image>what colour\n"
    "Answer the question using a single word or phrase.<end_of_utterance>\n"
    "Assistant:"
)


def save_tiny(folder: Path, variant: str) -> None:
    """A tiny checkpoint whose pictures are cut into tiles of 16 x 16 pixels."""
    made(SMOLVLM, folder, variant)
    save_parts(folder, variant)


def save_parts(folder: Path, variant: str) -> None:
    import transformers
    from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE

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


def test_pictures_become_tiles_and_prompts_are_padded_on_the_left(
    model: Model, tmp_path: Path
) -> None:
    state = model.inputs(two_samples(tmp_path))
    # 40 x 40 becomes 2 x 2 tiles and the whole, 64 x 32 one row of two and the whole
    assert state["pixel_values"].shape == (2, 5, 3, 16, 16)
    assert state["pixel_attention_mask"].any(-1).any(-1).sum(1).tolist() == [5, 3]
    shown = state["input_ids"] == IMAGE_AT
    assert shown.sum(1).tolist() == [5 * 4, 3 * 4]
    # two tiles less, each with 4 image tokens, a mark around it and its place, but
    # four words more
    missing = 2 * (4 + 2) - 4
    assert padding(state) == [0, missing]
    words = model.processor.tokenizer.decode(state["input_ids"][1])
    assert words.startswith("<pad> " * missing + "<|im_start|> user <fake_token")
    assert words.endswith("<end_of_utterance> assistant")


def test_the_masks_of_the_pixels_are_gone_once_they_are_features(
    model: Model, tmp_path: Path
) -> None:
    state = prefixed(model, model.inputs(two_samples(tmp_path)))
    assert set(state) == {"input_ids", "attention_mask", "features"}


def test_the_template_words_what_is_answered(model: Model, tmp_path: Path) -> None:
    samples = two_samples(tmp_path)
    assert model.worded(samples[0]) == TOLD
    check_answers(model, samples)


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


def published(
    vision: dict[str, Any], scale: int, text: Decoder, parameters: int
) -> Published:
    blocks = ("num_hidden_layers", "hidden_size", "intermediate_size")
    seen = scale**2 * vision["hidden_size"]
    return Published(
        {
            "model_type": "idefics3",
            "vision_config": vision,
            "text_config": text.config(model_type="llama"),
            "scale_factor": scale,
            "tie_word_embeddings": False,
        },
        parameters,
        {
            **tower(*(vision[key] for key in blocks)),
            ("connector", "all"): seen * text.width,
            **text.weights,
        },
    )


# 256M: the count that users of the checkpoint report. The others are their parts put
# together (SigLIP, SmolLM2 or Llama 3, a head of its own), which round to their names
PUBLISHED = {
    "256M": published(BASE, 4, Decoder(30, 576, 1536, 9, 3, 49280, 64), 256_484_928),
    "500M": published(BASE, 4, Decoder(32, 960, 2560, 15, 5, 49280, 64), 507_482_304),
    "2.2B": published(
        {**SO400M, "image_size": 384},
        3,
        Decoder(24, 2048, 8192, 32, 32, 49155, 64),
        2_246_272_880,
    ),
    "8B": published(
        SO400M, 2, Decoder(32, 4096, 14336, 32, 8, 128259, 128), 8_462_086_384
    ),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_published_models_have_their_published_sizes(size: str, tmp_path: Path) -> None:
    check_sizes(SMOLVLM, PUBLISHED[size], tmp_path)


def test_another_language_part_is_refused(tmp_path: Path) -> None:
    # its norms scale by one plus their weight: nothing folds into them
    text = {"model_type": "gemma", "head_dim": 16}
    check_refused(SMOLVLM, tmp_path, "is a 'gemma'; known are llama", text_config=text)
