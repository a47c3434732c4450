"""The files of published checkpoints, and what a family reads from them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator.core.errors import ModelError
from tests.states import logits_of, made

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Family

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
class Decoder:
    """A language model's sizes: `kv` of its `heads` of `dim` have keys and values."""

    layers: int
    width: int
    inner: int
    heads: int
    kv: int
    vocabulary: int
    dim: int

    def config(self, **more: Any) -> dict[str, Any]:
        """Its sizes in config.json, by the names that most kinds use."""
        return {
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "intermediate_size": self.inner,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv,
            "vocab_size": self.vocabulary,
            **more,
        }

    @property
    def weights(self) -> dict[tuple[str, str], int]:
        """Those of queries and output, keys and values; of gate, up and down."""
        attention = 2 * self.heads * self.dim + 2 * self.kv * self.dim
        return {
            ("language", "attn"): self.layers * attention * self.width,
            ("language", "ff"): self.layers * 3 * self.width * self.inner,
        }


def tower(layers: int, width: int, inner: int) -> dict[tuple[str, str], int]:
    """Weights of a vision tower: queries, keys, values and output; up and down."""
    return {
        ("vision", "attn"): layers * 4 * width**2,
        ("vision", "ff"): layers * 2 * width * inner,
    }


@dataclass(frozen=True)
class Published:
    """A configuration, the parameters it is known to have, and those in groups.

    `weights` are by component and layer type, worked out by hand; `left_out` are names.
    """

    config: Mapping[str, Any]
    parameters: int
    weights: Mapping[tuple[str, str], int] = field(default_factory=dict)
    left_out: Sequence[str] = ("lm_head",)


def check_sizes(family: Family, published: Published, folder: Path) -> None:
    """A family's groups, from the configuration alone."""
    (folder / "config.json").write_text(json.dumps(published.config))
    spec = family.spec(folder)
    assert spec.parameters == published.parameters
    found: Counter[tuple[str, str]] = Counter()
    for linear in spec.linears:
        found[linear.component, linear.type] += linear.weights
    assert found == published.weights
    assert [left.name for left in spec.left_out] == list(published.left_out)


def change(file: Path, **values: Any) -> None:
    """Put other values into a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def check_refused(family: Family, folder: Path, said: str, **values: Any) -> None:
    """A configuration with these values is one that the family does not read."""
    made(family, folder)
    # of another model: what is described is refused before they are looked at
    (folder / "model.safetensors").unlink()
    change(folder / "config.json", **values)
    with pytest.raises(ModelError, match=said):
        family.spec(folder)


def check_renamed(
    family: Family, folder: Path, variant: str, renamed: Callable[[str], str]
) -> None:
    """A checkpoint whose tensors have other names is read as it was before."""
    state = made(family, folder, variant)
    wanted = logits_of(family.load(folder, "cpu"), state)
    spec, file = family.spec(folder), folder / "model.safetensors"
    stored = {renamed(name): tensor for name, tensor in load_file(file).items()}
    assert stored.keys() != load_file(file).keys()
    save_file(stored, file, {"format": "pt"})
    assert family.spec(folder) == spec
    assert torch.equal(logits_of(family.load(folder, "cpu"), state), wanted)
    mapped = family.load(folder, "cpu", mapped=True).module
    names = (linear.name for linear in spec.linears)
    assert all(mapped.get_submodule(name).weight.any() for name in names)
