"""The published configurations, cut to two blocks a component, at their real widths.

Random weights, saved as transformers saves them, then read by the families as any
user's checkpoint is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.bench.workbench import Workbench
from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.plugins import load
from allocator.families import family_of
from evals.tasks.vqav2 import PLUGIN as VQAV2
from quant.bank import Recipe
from tests.states import bank_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow


def save_blip2(folder: Path) -> dict[str, int]:
    """Salesforce/blip2-opt-2.7b with two blocks in each component."""
    from transformers import Blip2Config, Blip2ForConditionalGeneration, OPTConfig

    text = OPTConfig(
        hidden_size=2560,
        word_embed_proj_dim=2560,
        ffn_dim=10240,
        num_attention_heads=32,
        num_hidden_layers=2,
        vocab_size=50304,
        max_position_embeddings=2048,
    )
    config = Blip2Config(
        vision_config={"num_hidden_layers": 2, "initializer_range": 0.02},
        qformer_config={"num_hidden_layers": 2},
        text_config=text.to_dict(),
        num_query_tokens=32,
        image_token_index=50265,
    )
    _save(Blip2ForConditionalGeneration, config, folder)
    # 4 x 1408^2 + 2 x 1408 x 6144 a block; Q-Former: self-attention and feed-forward
    # twice, cross-attention to 1408 once; OPT: 4 x 2560^2 + 2 x 2560 x 10240 a block
    cross = 2 * 768**2 + 2 * 768 * 1408
    return {
        "vision": 2 * (4 * 1408**2 + 2 * 1408 * 6144),
        "connector": 2 * (4 * 768**2 + 2 * 768 * 3072) + cross,
        "language": 2 * (4 * 2560**2 + 2 * 2560 * 10240),
    }


def save_llava(folder: Path) -> dict[str, int]:
    """llava-hf/llava-1.5-7b-hf with two blocks in each component."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_attention_heads=16,
            num_hidden_layers=2,
            image_size=336,
            patch_size=14,
            projection_dim=768,
        ),
        text_config=LlamaConfig(num_hidden_layers=2, vocab_size=32064),
        image_token_index=32000,
    )
    _save(LlavaForConditionalGeneration, config, folder)
    return {
        "vision": 2 * (4 * 1024**2 + 2 * 1024 * 4096),
        "connector": 1024 * 4096 + 4096**2,
        "language": 2 * (4 * 4096**2 + 3 * 4096 * 11008),
    }


def _save(model_class: Any, config: Any, folder: Path) -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float16)
    try:
        model = model_class(config)
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder, max_shard_size="500MB")


def one_prompt(config: Any) -> dict[str, torch.Tensor]:
    """One image and a short prompt with as many image tokens as the model reads."""
    count = getattr(config, "num_query_tokens", None) or config.image_seq_length
    side = config.vision_config.image_size
    ids = torch.tensor([[*([config.image_token_id] * count), 2, 100, 200, 300]])
    generator = torch.Generator().manual_seed(0)
    return {
        "pixel_values": torch.randn(1, 3, side, side, generator=generator),
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
    }


@pytest.mark.nightly
@pytest.mark.parametrize("save", [save_blip2, save_llava])
def test_a_checkpoint_of_real_widths_takes_the_same_code(
    save: Callable[[Path], dict[str, int]], tmp_path: Path
) -> None:
    weights = save(tmp_path / "model")
    family = family_of(tmp_path / "model")
    spec = family.spec(tmp_path / "model")
    for component, wanted in weights.items():
        groups = [group for group in spec.groups if group.component == component]
        assert sum(group.weights for group in groups) == wanted

    model = family.load(tmp_path / "model", "cpu")
    state = one_prompt(model.module.config)
    with torch.inference_mode():
        wanted_logits = model.module(**state).logits
        run = dict(state)
        for stage in model.stages():
            run = stage.run(run)
    torch.testing.assert_close(run["logits"], wanted_logits, atol=1e-4, rtol=1e-3)

    methods = {"uniform": load("quant.methods", "uniform")}
    recipe = Recipe("weights", ("a",), Scheme(), methods, (2, 16))
    bank = bank_of(tmp_path / "bank", recipe, model, spec, state)
    bench = Workbench(model, spec, VQAV2, bank)
    full = Allocation.uniform(spec, Choice(16))
    for group in spec.groups:
        before = [_weight(model, x.name).clone() for x in group.linears]
        bench.apply(full.replace({group.key: Choice(2, "uniform")}))
        for linear, old in zip(group.linears, before, strict=True):
            assert not torch.equal(_weight(model, linear.name), old)
        bench.apply(full)
        for linear, old in zip(group.linears, before, strict=True):
            assert torch.equal(_weight(model, linear.name), old)


def _weight(model: Any, name: str) -> torch.Tensor:
    return model.module.get_submodule(name).weight
