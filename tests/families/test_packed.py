"""Folders of quantized weights are read where they are asked for, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from torch import nn

from allocator.core.errors import ModelError
from allocator.core.plugins import load
from allocator.families import family_of
from allocator.families._packed import _read_as_packed
from tests.families.checkpoints import change
from tests.states import made

if TYPE_CHECKING:
    from pathlib import Path

ASKED = {"quantization_config": {"quant_method": "compressed-tensors"}}


@pytest.mark.parametrize(("family", "variant"), [("llava", "1.5"), ("blip2", "opt")])
def test_quantized_weights_are_refused_unless_they_are_asked_for(
    family: str, variant: str, tmp_path: Path
) -> None:
    made(load("allocator.families", family), tmp_path, variant)
    change(tmp_path / "config.json", **ASKED)
    plugin = family_of(tmp_path, packed=True)
    for read in (family_of, plugin.spec, plugin.outline):
        with pytest.raises(ModelError, match="quantized already"):
            read(tmp_path)
    with pytest.raises(ModelError, match="quantized already"):
        plugin.load(tmp_path, "cpu")


@pytest.mark.parametrize("name", ["weight_packed", "qweight"])
def test_what_is_packed_need_not_be_initialized(name: str) -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    config = SiglipVisionConfig(num_hidden_layers=1, **sizes)
    model = SiglipVisionModel(config)
    linear = next(each for each in model.modules() if isinstance(each, nn.Linear))
    packed, linear._is_hf_initialized = linear.weight, False
    del linear.weight
    with _read_as_packed(), pytest.raises(AttributeError, match="weight"):
        model._initialize_weights(linear)
    setattr(linear, name, packed)
    with _read_as_packed():
        model._initialize_weights(linear)
    # as it was before
    with pytest.raises(AttributeError, match="weight"):
        model._initialize_weights(linear)
