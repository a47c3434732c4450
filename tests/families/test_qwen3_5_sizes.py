"""Sizes of the published Qwen3.5 and 3.6, from their configurations alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.plugins import load
from tests.families.checkpoints import Published, check_sizes, tower

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

FAMILY: Family = load("allocator.families", "qwen3_5")
WORDS, HEAD_DIM, STATE_DIM = 248320, 256, 128
VISION = {
    "depth": 27,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 1152,
    "in_channels": 3,
    "intermediate_size": 4304,
    "num_heads": 16,
    "num_position_embeddings": 2304,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


@dataclass(frozen=True)
class Hybrid:
    """A language model's sizes; three of four blocks keep a state of `states` heads.

    `inner` is that of a dense block, or of each of `experts` and of one more.
    """

    layers: int
    width: int
    inner: int
    heads: int
    kv: int
    states: int
    experts: int = 0

    @property
    def config(self) -> dict[str, Any]:
        """What config.json has, as the first ones were published."""
        kind = "qwen3_5_moe" if self.experts else "qwen3_5"
        inner = {"intermediate_size": self.inner}
        if self.experts:
            inner = {
                "moe_intermediate_size": self.inner,
                "shared_expert_intermediate_size": self.inner,
                "num_experts": self.experts,
                "num_experts_per_tok": 8,
            }
        text = {
            "model_type": f"{kind}_text",
            "full_attention_interval": 4,
            "head_dim": HEAD_DIM,
            "hidden_size": self.width,
            "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": STATE_DIM,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": self.states,
            "linear_value_head_dim": STATE_DIM,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv,
            "rope_parameters": {
                "mrope_interleaved": True,
                "mrope_section": [11, 11, 10],
                "partial_rotary_factor": 0.25,
                "rope_theta": 10000000,
                "rope_type": "default",
            },
            "tie_word_embeddings": False,
            "vocab_size": WORDS,
            **inner,
        }
        return {
            "model_type": kind,
            "text_config": text,
            "tie_word_embeddings": False,
            "vision_config": {
                **VISION,
                "model_type": kind,
                "out_hidden_size": self.width,
            },
        }

    @property
    def attention(self) -> int:
        """Queries and their gates, keys and values, output."""
        return self.width * HEAD_DIM * (2 * self.heads + 2 * self.kv + self.heads)

    @property
    def state(self) -> int:
        """Queries, keys and values; what gates the output; output."""
        return self.width * STATE_DIM * (2 * 16 + 3 * self.states)

    @property
    def feed_forward(self) -> int:
        """Three matrices, of every expert and of the one that all tokens go to."""
        return (self.experts + 1) * 3 * self.width * self.inner

    @property
    def weights(self) -> dict[tuple[str, str], int]:
        """Those in groups."""
        full = self.layers // 4
        return tower(27, 1152, 4304) | {
            ("connector", "all"): 4608**2 + 4608 * self.width,
            ("language", "attn"): full * (self.attention + 3 * self.state),
            ("language", "ff"): self.layers * self.feed_forward,
        }

    @property
    def ahead(self) -> int:
        """The block that guesses a further token, which nothing here reads.

        Beside it one matrix that reads an embedding and a state, and its norms.
        """
        routes = (self.experts + 1) * self.width if self.experts else 0
        norms = 5 * self.width + 2 * HEAD_DIM
        return self.attention + self.feed_forward + routes + 2 * self.width**2 + norms

    @property
    def left_out(self) -> list[str]:
        """Gates of the states, the head, then routers and gates of the shared one."""
        blocks = [f"model.language_model.layers.{n}" for n in range(self.layers)]
        found: list[str] = []
        for number, block in enumerate(blocks):
            if number % 4 < 3:
                found += (f"{block}.linear_attn.in_proj_{x}" for x in "ba")
            if self.experts:
                found.append(f"{block}.mlp.shared_expert_gate")
        found.append("lm_head")
        if self.experts:
            found += (f"{block}.mlp.gate" for block in blocks)
        return found


# parameters of the weights' files, with those of the block that guesses ahead: what
# the Hub's API gives as safetensors.total of these models
PUBLISHED = {
    "Qwen3.5-9B": (Hybrid(32, 4096, 12288, 16, 4, 32), 9_653_104_368),
    "Qwen3.6-27B": (Hybrid(64, 5120, 17408, 24, 4, 48), 27_781_427_952),
    "Qwen3.6-35B-A3B": (Hybrid(40, 2048, 512, 16, 2, 32, 256), 35_951_822_704),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_those_of_the_published_models(name: str, tmp_path: Path) -> None:
    text, stored = PUBLISHED[name]
    published = Published(text.config, stored - text.ahead, text.weights, text.left_out)
    check_sizes(FAMILY, published, tmp_path)
