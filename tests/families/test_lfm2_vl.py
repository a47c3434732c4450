"""LFM2-VL beyond the contract: published sizes and key names, its blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.plugins import load
from tests.families.checkpoints import (
    Published,
    check_refused,
    check_renamed,
    check_sizes,
    tower,
)
from tests.states import made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

FAMILY: Family = load("allocator.families", "lfm2_vl")
ATTENDING = (2, 5, 8, 10, 12, 14)


def published(width: int, inner: int, seen: tuple[int, ...], count: int) -> Published:
    """A language model of 16 blocks, and a tower: layers, width, inner width, heads.

    Args:
        width: of the language model.
        inner: of its feed-forward parts as they are, not as config.json says.
        seen: the tower.
        count: parameters.
    """
    layers, wide, within, heads = seen
    # two thirds of what is said, in multiples of 256
    said = {1024: 6656, 2048: 12288}[width]
    config: dict[str, Any] = {
        "model_type": "lfm2_vl",
        "projector_hidden_size": 2560,
        "text_config": {
            "model_type": "lfm2",
            "hidden_size": width,
            "block_ff_dim": said,
            "block_auto_adjust_ff_dim": True,
            "num_hidden_layers": 16,
            "num_attention_heads": width // 64,
            "num_key_value_heads": 8,
            "full_attn_idxs": list(ATTENDING),
            "vocab_size": 65536,
        },
        "vision_config": {
            "model_type": "siglip2_vision_model",
            "hidden_size": wide,
            "intermediate_size": within,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "vision_use_head": False,
        },
    }
    # queries and outputs, keys and values of 8 heads; three parts in, one out
    mixing = 6 * (2 * width**2 + 2 * width * 512) + 10 * 4 * width**2
    weights = tower(layers, wide, within) | {
        ("connector", "all"): 4 * wide * 2560 + 2560 * width,
        ("language", "attn"): mixing,
        ("language", "ff"): 16 * 3 * width * inner,
    }
    patches = "model.vision_tower.embeddings.patch_embedding"
    return Published(config, count, weights, (patches, "lm_head"))


# LiquidAI/LFM2-VL-450M and -1.6B; counts of their files, in a public index of models
PUBLISHED = {
    "450M": published(1024, 4608, (12, 768, 3072, 12), 450_822_656),
    "1.6B": published(2048, 8192, (26, 1152, 4304, 16), 1_584_804_000),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_published_sizes_come_from_the_configurations_alone(
    size: str, tmp_path: Path
) -> None:
    check_sizes(FAMILY, PUBLISHED[size], tmp_path)


def test_files_with_the_towers_name_of_before_transformers_5_are_read(
    tmp_path: Path,
) -> None:
    def renamed(name: str) -> str:
        return name.replace("vision_tower.", "vision_tower.vision_model.")

    check_renamed(FAMILY, tmp_path, "lfm2_vl", renamed)


def test_what_mixes_tokens_is_of_one_type_in_both_kinds_of_blocks(
    tmp_path: Path,
) -> None:
    made(FAMILY, tmp_path)
    spec = FAMILY.spec(tmp_path, "block")
    mixing = {
        f"{x.block}.{x.name.split('.', 4)[-1]}"
        for x in spec.linears
        if x.component == "language" and x.type == "attn"
    }
    attention = {f"1.self_attn.{name}_proj" for name in ("q", "k", "v", "out")}
    assert mixing == {"0.conv.in_proj", "0.conv.out_proj"} | attention


def test_another_language_model_is_refused(tmp_path: Path) -> None:
    said = "language part of this 'lfm2_vl' model is a 'llama'; known are lfm2"
    check_refused(FAMILY, tmp_path, said, text_config={"model_type": "llama"})
