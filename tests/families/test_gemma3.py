"""Gemma 3 beyond the contract: its processor, its published sizes, its refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.errors import DataError
from allocator.core.plugins import load
from tests.families.checkpoints import SIGLIP, Decoder, Published, check_sizes, tower
from tests.families.processors import (
    check_answers,
    padding,
    save_processor,
    start_with_bos,
    two_samples,
    word_tokenizer,
)
from tests.states import made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model

GEMMA: Family = load("allocator.families", "gemma3")
# like the published one, it writes the first token itself
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    made(GEMMA, folder)
    save_parts(folder)
    return GEMMA.load(folder, "cpu")


def save_parts(folder: Path) -> None:
    from transformers import Gemma3ImageProcessorPil

    marks = ["<start_of_image>", "<end_of_image>", "<start_of_turn>", "<end_of_turn>"]
    roles = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    words = start_with_bos(
        word_tokenizer(
            "<image_soft_token>", marks, bos_token="<s>", extra_special_tokens=roles
        )
    )
    pictures = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    settings = {"processor_class": "Gemma3Processor", "image_seq_length": 4}
    save_processor(folder, words, pictures, settings, TEMPLATE)


def test_two_pictures_of_different_shapes_are_answered(
    model: Model, tmp_path: Path
) -> None:
    samples = two_samples(tmp_path)
    state = model.inputs(samples)
    shown = state["input_ids"] == 4
    assert shown.sum(1).tolist() == [4, 4]
    assert torch.equal(state["token_type_ids"].bool(), shown)
    # "is this this this" is four words longer
    assert padding(state) == [4, 0]
    check_answers(model, samples)


def test_the_first_token_stands_there_once(model: Model, tmp_path: Path) -> None:
    samples = two_samples(tmp_path)
    assert model.worded(samples[0]).startswith("<s><start_of_turn>user\n<start_of_im")
    for answered in (False, True):
        state = model.inputs(samples, answered=answered)
        assert (state["input_ids"] == 2).sum(1).tolist() == [1, 1]


# 4,300,079,472: `sum(p.numel() ...)` of google/gemma-3-4b-it, in public code
PUBLISHED = Published(
    {
        "model_type": "gemma3",
        "mm_tokens_per_image": 256,
        "image_token_index": 262144,
        "vision_config": {**SIGLIP, "image_size": 896},
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
            "sliding_window": 1024,
        },
    },
    4_300_079_472,
    tower(27, 1152, 4304) | Decoder(34, 2560, 10240, 8, 4, 262208, 256).weights,
)


def test_the_published_size_comes_from_the_configuration_alone(tmp_path: Path) -> None:
    check_sizes(GEMMA, PUBLISHED, tmp_path)
    # embeddings, which are the head, and the connector's matrix are in the rest
    assert GEMMA.spec(tmp_path).rest >= 262208 * 2560 + 1152 * 2560


def test_norms_that_take_a_scale_add_one_to_their_weight(model: Model) -> None:
    folds = {
        (group.fold.rpartition(".")[2], group.added)
        for stage in model.stages()
        for group in stage.siblings
        if stage.component == "language" and group.fold
    }
    # those behind attention and feed-forward feed the residual, and with two key-value
    # heads for four one value channel feeds several of the output's
    before = ("input_layernorm", "pre_feedforward_layernorm")
    assert folds == {*((name, 1.0) for name in before), ("up_proj", 0.0)}


def test_layers_that_slide_see_less_than_those_that_do_not(tmp_path: Path) -> None:
    state = made(GEMMA, tmp_path)
    stages = GEMMA.load(tmp_path, "cpu").stages()
    with torch.inference_mode():
        for stage in stages:
            state = stage.run(state)
            if stage.name == "language.embed":
                break
    # block 0 slides, block 1 does not
    seen = [state["calls"].of(n)[1]["attention_mask"].sum() for n in (0, 1)]
    assert seen[0] < seen[1]


@pytest.mark.parametrize("mark", ["<start_of_image>", "<image_soft_token>"])
def test_neither_word_for_a_picture_may_be_asked(
    mark: str, model: Model, tmp_path: Path
) -> None:
    sample = replace(two_samples(tmp_path)[0], text=f"what {mark} colour")
    with pytest.raises(DataError, match=f"sample 0 .*{mark} stands for a picture"):
        model.inputs([sample])
