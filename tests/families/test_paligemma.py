"""PaliGemma beyond the contract: its processor, its published sizes, its refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.plugins import load
from tests.families.checkpoints import SIGLIP, Decoder, Published, check_sizes, tower
from tests.families.processors import (
    check_answers,
    padding,
    save_processor,
    two_samples,
    word_tokenizer,
)
from tests.states import logits_of, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model

# transformers' processor hands a tensor to numpy's `array`
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)
PALI: Family = load("allocator.families", "paligemma")


@pytest.fixture(params=PALI.variants)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    made(PALI, folder, request.param)
    save_parts(folder)
    return PALI.load(folder, "cpu")


def save_parts(folder: Path) -> None:
    from transformers import SiglipImageProcessorPil

    words = word_tokenizer("<image>", ["\n"], bos_token="<s>")
    pictures = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    pictures.image_seq_length = 4
    settings = {"processor_class": "PaliGemmaProcessor"}
    save_processor(folder, words, pictures, settings, "")


def ids(model: Model, text: str) -> list[int]:
    found: list[int] = model.processor.tokenizer.convert_tokens_to_ids(text.split(" "))
    return found


def test_two_pictures_of_different_shapes_are_answered(
    model: Model, tmp_path: Path
) -> None:
    samples = two_samples(tmp_path)
    state = model.inputs(samples)
    # "answer en what colour", "en" being unknown; the second question has four more
    image = " ".join(["<image>"] * 4)
    asked = ids(model, f"{image} <s> answer <unk> what colour \n")
    assert state["input_ids"][0].tolist() == ids(model, "<pad> " * 3 + "<pad>") + asked
    assert padding(state) == [4, 0]
    # all of it is read both ways, and nothing is there for training
    assert not state["token_type_ids"].any()
    assert "labels" not in state
    check_answers(model, samples)


def test_an_answer_stands_behind_its_prompt_and_is_read_one_way(
    model: Model, tmp_path: Path
) -> None:
    state = model.inputs(two_samples(tmp_path), answered=True)
    end = ids(model, "\n red </s>")
    assert state["input_ids"][:, -3:].tolist() == [end, end]
    assert state["token_type_ids"][:, -3:].tolist() == [[0, 1, 1]] * 2
    assert not state["token_type_ids"][:, :-2].any()
    assert "labels" not in state


def test_captions_have_their_own_task(model: Model, tmp_path: Path) -> None:
    asked = [replace(each, prompt="caption", text="") for each in two_samples(tmp_path)]
    assert {model.worded(each) for each in asked} == {"<image>caption en"}


def published(kind: str, text: Decoder, parameters: int) -> Published:
    width = text.width
    return Published(
        {
            "model_type": "paligemma",
            "image_token_index": 257152,
            "projection_dim": width,
            "hidden_size": width,
            "vocab_size": 257216,
            "vision_config": {**SIGLIP, "projection_dim": width},
            "text_config": text.config(model_type=kind),
        },
        parameters,
        {**tower(27, 1152, 4304), ("connector", "all"): 1152 * width, **text.weights},
    )


# the counts that KerasHub's presets give, whose vocabulary is 64 words shorter
PUBLISHED = {
    "google/paligemma-3b-mix-224": published(
        "gemma",
        Decoder(18, 2048, 16384, 8, 1, 257216, 256),
        2_923_335_408 + 64 * 2048,
    ),
    "google/paligemma2-3b-mix-224": published(
        "gemma2",
        Decoder(26, 2304, 9216, 8, 4, 257216, 256),
        3_032_094_960 + 64 * 2304,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_sizes(name: str, tmp_path: Path) -> None:
    check_sizes(PALI, PUBLISHED[name], tmp_path)


def test_the_second_version_caps_its_logits(tmp_path: Path) -> None:
    state = made(PALI, tmp_path, "2")
    model = PALI.load(tmp_path, "cpu")
    with torch.no_grad():
        model.module.model.language_model.norm.weight.fill_(100.0)
    # the cap of the tiny model is 1
    assert 0.9 < logits_of(model, state).abs().max() <= 1
