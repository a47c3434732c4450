"""A card's lines load what was written, as printed, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from allocator.core.plugins import load
from allocator.exporters.compressed_tensors import PLUGIN
from tests.exporters.models import checkpoint_of, random_model, some_samples
from tests.exporters.written import needs_library, written
from tests.states import made

if TYPE_CHECKING:
    from pathlib import Path

ANSWER = """
from PIL import Image

asked = [{"type": "image"}, {"type": "text", "text": "what is this?"}]
text = processor.apply_chat_template(
    [{"role": "user", "content": asked}], add_generation_prompt=True
)
image = Image.open("pictures/0.png")
inputs = processor(images=image, text=text, return_tensors="pt").to(model.dtype)
ids = model.generate(**inputs, max_new_tokens=2, do_sample=False)
assert ids.shape[1] > inputs["input_ids"].shape[1]
"""
UNPACKED = """
names = [name for name, _ in model.named_parameters()]
assert not any(name.endswith("weight_packed") for name in names)
"""


@needs_library
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llava", "qwen2.5-vl", "qwen3-vl"])
def test_the_cards_lines_load_it_and_it_answers(kind: str, tmp_path: Path) -> None:
    if kind.startswith("qwen"):
        pytest.importorskip("torchvision", reason="Qwen's processor needs torchvision")
    random_model(tmp_path / "source", kind)
    some_samples(tmp_path / "pictures")
    export = written(checkpoint_of(tmp_path / "source"), tmp_path / "out")
    run(PLUGIN.usage(export) + ANSWER, tmp_path)


def run(lines: str, folder: Path) -> None:
    """Run a card's lines and more where the checkpoint lies."""
    done = subprocess.run(
        [sys.executable, "-c", lines.replace("{out}", "out")],
        cwd=folder,
        capture_output=True,
        text=True,
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
    run(usage + UNPACKED, tmp_path)
