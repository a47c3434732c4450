"""A linear that a family has never heard of is an error that names it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

from allocator.core.errors import SpecError
from allocator.core.plugins import available, load
from allocator.families import _family, blip2
from tests.states import VARIANTS, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

# names that begin like those of known parts, or stand beside them
UNKNOWN = {
    "blip2": "qformer.encoder.adapter",
    "gemma3": "model.vision_tower.headless_adapter",
    "gemma4": "model.vision_tower.adapter",
    "glm4v": "model.visual.adapter",
    "internvl": "model.multi_modal_projector.linear_3",
    "lfm2_vl": "model.multi_modal_projector.linear_3",
    "llava": "model.vision_tower.headless_adapter",
    "minicpmv4_6": "model.vision_tower.vit_merger.linear_3",
    "mistral3": "model.multi_modal_projector.linear_3",
    "molmo2": "model.adapter",
    "paligemma": "model.vision_tower.headless_adapter",
    "qwen3_5": "model.language_model.adapter",
    "qwen_vl": "model.visual.adapter",
    "smolvlm": "model.connector.resampler",
}


def test_every_family_is_tried() -> None:
    # what nobody has declared is placed by structure, whatever its name is
    assert {*UNKNOWN, "auto"} == set(available("allocator.families"))


@pytest.mark.parametrize(
    ("name", "variant"), [each for each in VARIANTS if each[0] != "auto"]
)
def test_an_unknown_linear_is_named(
    name: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family: Family = load("allocator.families", name)
    made(family, tmp_path, variant)
    part, _, linear = UNKNOWN[name].rpartition(".")
    build = _family.build

    def grown(*args: Any, **more: Any) -> Any:
        module = build(*args, **more)
        module.get_submodule(part).add_module(linear, nn.Linear(8, 8))
        return module

    for module in (_family, blip2):
        monkeypatch.setattr(module, "build", grown)
    with pytest.raises(SpecError, match=re.escape(f"'{UNKNOWN[name]}'")):
        family.spec(tmp_path)
