"""A linear that a family has never heard of is an error that names it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

from allocator.core.errors import SpecError
from allocator.core.plugins import available, load
from allocator.families import AUTO, _family, blip2
from tests.states import VARIANTS, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

# names that begin like those of known parts, or stand beside them
UNKNOWN = {
    "blip2": "qformer.encoder.adapter",
    "gemma3": "model.vision_tower.headless_adapter",
    "internvl": "model.multi_modal_projector.linear_3",
    "llava": "model.vision_tower.headless_adapter",
    "paligemma": "model.vision_tower.headless_adapter",
    "qwen_vl": "model.visual.adapter",
    "smolvlm": "model.connector.resampler",
}


def test_every_family_is_tried() -> None:
    # placed by its structure, it stays at 16 bits if it is small: see test_auto.py
    assert {*UNKNOWN, AUTO} == set(available("allocator.families"))


@pytest.mark.parametrize(("name", "variant"), [x for x in VARIANTS if x[0] != AUTO])
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
