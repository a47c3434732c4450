"""The files of published checkpoints, and what a family reads from them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from allocator.core.errors import SpecError
from allocator.core.ports import Decoding
from allocator.families import _family

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.core.ports import Family, Model, State

# SigLIP So400m and CLIP-L/14 as config.json gives them
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "patch_size": 14,
    "vision_use_head": False,
}
CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
    "vocab_size": 32000,
}


@dataclass(frozen=True)
class Published:
    """A configuration, the parameters it is known to have, and those in groups.

    `weights` are by component and layer type, worked out by hand.
    """

    config: Mapping[str, Any]
    parameters: int
    weights: Mapping[tuple[str, str], int] = field(default_factory=dict)


def check_sizes(family: Family, published: Published, folder: Path) -> None:
    """A family's groups, from the configuration alone."""
    (folder / "config.json").write_text(json.dumps(published.config))
    spec = family.spec(folder)
    assert spec.parameters == published.parameters
    found: Counter[tuple[str, str]] = Counter()
    for linear in spec.linears:
        found[linear.component, linear.type] += linear.weights
    assert found == published.weights


def check_unknown_linear(
    family: Family, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A linear that the family has never heard of is an error that names it."""
    build = _family.build_on_meta

    def grown(*args: Any) -> Any:
        module = build(*args)
        module.model.vision_tower.headless_adapter = nn.Linear(8, 8)
        return module

    monkeypatch.setattr(_family, "build_on_meta", grown)
    with pytest.raises(SpecError, match=r"'model\.vision_tower\.headless_adapter'"):
        family.spec(folder)


def save_processor(
    folder: Path, name: str, parts: tuple[Any, Any], template: str, **settings: Any
) -> None:
    """Write picture processor and tokenizer as published checkpoints have them."""
    pictures, tokenizer = parts
    pictures.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    file = folder / "preprocessor_config.json"
    kind = type(pictures).__name__.removesuffix("Pil")
    file.write_text(
        json.dumps({**json.loads(file.read_text()), "image_processor_type": kind})
    )
    (folder / "processor_config.json").write_text(
        json.dumps({"processor_class": f"{name}Processor", **settings})
    )
    if template:
        (folder / "chat_template.json").write_text(
            json.dumps({"chat_template": template})
        )


def start_with_bos(tokenizer: Any) -> Any:
    """Let a tokenizer put its first token before every text."""
    from tokenizers.processors import TemplateProcessing

    first = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first[0]} $A", pair=f"{first[0]} $A $B", special_tokens=[first]
    )
    return tokenizer


def check_beams(model: Model, state: State) -> None:
    """Three beams give the tokens that transformers gives, and leave features alone."""
    with torch.inference_mode():
        wanted = model.module.generate(
            **state, max_new_tokens=5, num_beams=3, do_sample=False
        )
        for stage in model.stages():
            if stage.component in model.prefix:
                state = stage.run(state)
        found = [model.reply_ids(state, Decoding(5, beams=3)) for _ in range(2)]
    for each in found:
        assert torch.equal(each, wanted[:, state["input_ids"].shape[1] :])
