"""BLIP-2's beams: short answers, captions of any length, as its authors have it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.ports import Decoding
from allocator.embedded import HERE
from allocator.families.blip2 import PLUGIN
from tests.families.processors import two_samples
from tests.states import prefixed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("prompt", "beams", "penalty"),
    [("vqa", 3, -1.0), ("gqa", 3, -1.0), ("caption", 3, 1.0), ("vqa", 1, None)],
)
def test_beams_prefer_short_answers_but_not_short_captions(
    prompt: str,
    beams: int,
    penalty: float | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = PLUGIN.load(HERE / "tiny-blip2", "cpu")
    samples = [replace(each, prompt=prompt) for each in two_samples(tmp_path)]
    state = model.inputs(samples)
    told: list[tuple[int, float | None]] = []
    language = model.module.language_model
    generate = language.generate

    def noted(**kwargs: Any) -> Any:
        settings = language.generation_config
        told.append((settings.num_beams, settings.length_penalty))
        return generate(**kwargs)

    monkeypatch.setattr(language, "generate", noted)
    with torch.inference_mode():
        state = prefixed(model, state)
        model.predict([state], samples, Decoding(4, beams), lambda _: None)
    # each picture is read once before any beam goes on from it
    assert told == [(1, None)] * (beams > 1) + [(beams, penalty)]
