"""Mistral 3 beyond the contract: published sizes and key names, refusals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.plugins import load
from tests.families.checkpoints import (
    Decoder,
    Published,
    check_refused,
    check_renamed,
    check_sizes,
)

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

FAMILY: Family = load("allocator.families", "mistral3")
TEXT = Decoder(40, 5120, 32768, 32, 8, 131072, 128)
# mistralai/Mistral-Small-3.1-24B-Instruct-2503, and -3.2, as config.json has it;
# 24,011,361,280: what keras-hub says of it (mistral3_presets.py)
PUBLISHED = Published(
    {
        "model_type": "mistral3",
        "image_token_index": 10,
        "multimodal_projector_bias": False,
        "spatial_merge_size": 2,
        "vision_feature_layer": -1,
        "text_config": TEXT.config(model_type="mistral", head_dim=128),
        "vision_config": {
            "model_type": "pixtral",
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "head_dim": 64,
            "image_size": 1540,
            "patch_size": 14,
        },
    },
    24_011_361_280,
    {
        ("vision", "attn"): 24 * 4 * 1024**2,
        ("vision", "ff"): 24 * 3 * 1024 * 4096,
        # four patches side by side become one, which two layers project
        ("connector", "all"): 4 * 1024**2 + 1024 * 5120 + 5120**2,
    }
    | TEXT.weights,
)


def test_the_published_size_comes_from_the_configuration_alone(tmp_path: Path) -> None:
    check_sizes(FAMILY, PUBLISHED, tmp_path)


@pytest.mark.parametrize("variant", FAMILY.variants)
def test_files_with_names_of_transformers_5_are_read_too(
    variant: str, tmp_path: Path
) -> None:
    def renamed(name: str) -> str:
        """Written are those of before, in which the language model is whole."""
        name = name.replace("language_model.lm_head", "lm_head")
        name = name.replace("language_model.model.", "language_model.")
        return name if name.startswith("lm_head") else f"model.{name}"

    check_renamed(FAMILY, tmp_path, variant, renamed)


def test_another_language_model_is_refused(tmp_path: Path) -> None:
    other: dict[str, Any] = {"model_type": "qwen2", "hidden_size": 64}
    said = "language part of this 'mistral3' model is a 'qwen2'; known are mistral, min"
    check_refused(FAMILY, tmp_path, said, text_config=other)
