"""The random models that exports are tested on are as published ones are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors import safe_open

from allocator.core.ports import Decoding
from allocator.families import family_of
from tests.exporters.models import KINDS, checkpoint_of, random_model, some_samples
from tests.states import logits_of, prefixed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", KINDS)
def test_both_forms_are_the_same_model_and_reply(kind: str, tmp_path: Path) -> None:
    samples = some_samples(tmp_path)
    logits, keys = [], []
    for form in ("hub", "transformers5"):
        folder = tmp_path / form
        random_model(folder, kind, 128, form)
        model = family_of(folder).load(folder, "cpu")
        logits.append(logits_of(model, model.inputs(samples)))
        with safe_open(folder / "model.safetensors", "pt") as file:
            keys.append(set(file.keys()))
        with torch.inference_mode():
            state = prefixed(model, model.inputs(samples))
            said = model.predict([state], samples, Decoding(4), lambda _: None)
        assert len(said) == 2
    assert torch.equal(*logits)
    # what transformers 5 renames when it saves
    assert (keys[0] == keys[1]) == (kind != "llava")


def test_a_published_qwen_has_one_flat_configuration(tmp_path: Path) -> None:
    random_model(tmp_path, "qwen2.5-vl")
    config = json.loads((tmp_path / "config.json").read_text())
    assert "text_config" not in config
    assert config["rope_theta"] == 1e6
    assert config["rope_scaling"] == {"type": "mrope", "mrope_section": [8, 12, 12]}


def test_widths_are_taken_in_turn(tmp_path: Path) -> None:
    random_model(tmp_path, "llava", 128)
    made = checkpoint_of(tmp_path, (2, 16, 8))
    bits = [choice.bits for _, choice in made.allocation]
    assert bits[:4] == [2, 16, 8, 2]
    name = next(iter(made.low))
    assert made.weight(name).shape == made.cell(name).codes.shape
    assert made.cell(name).bits == 2
    coded = sum(linear.name in made.low for linear in made.spec.linears)
    whole = len(list(made.model.module.parameters()))
    assert len(list(made.rest())) == whole - coded
