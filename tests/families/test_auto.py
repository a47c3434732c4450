"""Models that nobody has declared: placed by their structure, asked, refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from allocator.core.errors import AllocateError, SpecError
from allocator.core.plugins import load
from allocator.core.ports import Decoding
from allocator.families import auto, family_of
from tests.families.checkpoints import change
from tests.families.processors import (
    check_answers,
    check_beams,
    save_processor,
    start_with_bos,
    two_samples,
    word_tokenizer,
)
from tests.families.test_llava import INSTRUCT
from tests.states import logits_of, made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

AUTO: Family = load("allocator.families", "auto")
# another library's
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def save_parts(folder: Path) -> None:
    """LLaVA's processor, for a ViP-LLaVA: pictures of 56 x 56 in patches of 14."""
    from transformers import CLIPImageProcessorPil

    side = {"height": 56, "width": 56}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size=side)
    words = start_with_bos(
        word_tokenizer("<image>", ["[INST]", "[/INST]"], bos_token="<s>")
    )
    settings = {
        "processor_class": "LlavaProcessor",
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    save_processor(folder, words, pictures, settings, INSTRUCT)
    change(folder / "config.json", image_token_index=4, image_token_id=4)


def test_a_model_with_its_processor_answers_as_transformers_does(
    tmp_path: Path,
) -> None:
    made(AUTO, tmp_path / "model", "vipllava")
    save_parts(tmp_path / "model")
    family = family_of(tmp_path / "model")
    assert family is AUTO
    model = family.load(tmp_path / "model", "cpu")
    samples = two_samples(tmp_path)
    check_answers(model, samples)
    check_beams(model, model.inputs(samples))
