"""A card's lines load what was written, as printed, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.plugins import load
from allocator.exporters.compressed_tensors import PLUGIN
from tests.exporters.models import checkpoint_of, random_model, some_samples
from tests.exporters.written import expected, needs_library, written
from tests.states import logits_of, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Sample


@needs_library
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llava", "qwen2.5-vl", "qwen3-vl"])
def test_the_cards_lines_load_it_and_it_answers(kind: str, tmp_path: Path) -> None:
    if kind.startswith("qwen"):
        pytest.importorskip("torchvision", reason="Qwen's processor needs torchvision")
    random_model(tmp_path / "source", kind)
    samples = some_samples(tmp_path / "pictures")
    wanted = checkpoint_of(tmp_path / "source", samples=samples)
    export = written(wanted, tmp_path / "out")
    reopened = PLUGIN.reopen(export, tmp_path / "out")
    assert reopened is not None
    answer(PLUGIN.usage(export), tmp_path, samples[0])
    ours = torch.cat(
        [logits_of(expected(wanted), wanted.model.inputs([s]))[:, -1] for s in samples]
    )
    logits = reopened.logits(samples)
    assert torch.equal(logits, ours)


def answer(usage: str, folder: Path, sample: Sample) -> None:
    """Run a card's lines where the checkpoint lies, and ask the model something."""
    asked = f"""
from PIL import Image
text = processor.apply_chat_template(
    [{{"role": "user", "content": [{{"type": "image"}}, {{"type": "text", "text": "what"}}]}}],
    add_generation_prompt=True)
inputs = processor(images=Image.open({str(sample.image)!r}), text=text, return_tensors="pt")
ids = model.generate(**inputs.to(model.dtype), max_new_tokens=2, do_sample=False)
assert ids.shape[1] > inputs["input_ids"].shape[1]
"""
    lines = usage.replace("{out}", "out") + asked
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@needs_library
@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "variant"),
    [("paligemma", "1"), ("gemma3", "gemma3"), ("blip2", "t5"), ("blip2", "retrieval")],
)
def test_the_cards_lines_load_what_transformers_stumbles_over(
    family: str, variant: str, tmp_path: Path
) -> None:
    made(load("allocator.families", family), tmp_path / "source", variant)
    wanted = checkpoint_of(tmp_path / "source")
    usage = PLUGIN.usage(written(wanted, tmp_path / "out"))
    # a tiny model has no processor
    usage = "\n".join(x for x in usage.splitlines() if not x.startswith("processor"))
    lines = (
        usage.replace("{out}", "out")
        + "\nassert all(p.is_floating_point() for p in model.parameters())"
    )
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
