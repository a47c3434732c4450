"""What was written for MLX is what mlx-vlm computes with, where there is one."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from allocator.core.allocation import Scheme
from allocator.core.errors import ModelError
from allocator.core.ports import Decoding, Sample
from allocator.embedded import model_folder
from allocator.exporters._loaded import next_logits
from allocator.exporters._mlx_reopened import PYTHON, runtime_python
from allocator.exporters.mlx import PLUGIN, QUESTION
from tests.exporters.models import KINDS, checkpoint_of, random_model, some_samples
from tests.exporters.test_mlx import export_of, holding, written
from tests.families.checkpoints import change
from tests.states import prefixed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        runtime_python() is None,
        reason=f"no mlx-vlm here, and {PYTHON} names no Python that has it",
    ),
]


@pytest.mark.parametrize("kind", KINDS)
def test_mlx_vlm_has_the_weights_and_the_logits_that_were_written(
    kind: str, tmp_path: Path
) -> None:
    random_model(tmp_path / "model", kind, 128, "transformers5")
    samples = some_samples(tmp_path)
    checkpoint = checkpoint_of(tmp_path / "model", samples=samples)
    export = export_of(checkpoint)
    reopened = PLUGIN.reopen(export, written(export, tmp_path / "out"))
    assert reopened is not None
    assert "mlx-vlm" in reopened.loader
    for name in checkpoint.low:
        assert torch.equal(reopened.weight(name), checkpoint.weight(name))
    found, wanted = reopened.logits(samples), next_logits(holding(checkpoint), samples)
    assert found is not None
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)


def test_the_lines_of_the_card_reply_as_the_model_does_here(tmp_path: Path) -> None:
    folder = model_folder("tiny-llava")
    checkpoint = checkpoint_of(folder, widths=(6, 8), scheme=Scheme(64))
    export = export_of(checkpoint)
    written(export, tmp_path / "out")
    lines = PLUGIN.usage(export).replace("{out}", "out")
    python = runtime_python()
    assert python is not None
    done = subprocess.run(
        [python, "-c", lines], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    asked = [Sample("red", tmp_path / "red.png", "vqa", QUESTION, ())]
    model = holding(checkpoint)
    state = prefixed(model, model.inputs(asked))
    replies = model.predict([state], asked, Decoding(10), lambda _: None)
    assert done.stdout.strip() == replies[0]


def test_other_widths_than_were_written_are_not_loaded(
    tmp_path: Path,
) -> None:
    random_model(tmp_path / "model", "llava", 128)
    export = export_of(checkpoint_of(tmp_path / "model"))
    out = written(export, tmp_path / "out")
    config = json.loads((out / "config.json").read_text())
    said = config["quantization"]
    path = "multi_modal_projector.linear_1"
    said[path]["bits"] = {2: 4, 3: 4, 4: 2, 5: 4, 6: 4, 8: 4}[said[path]["bits"]]
    change(out / "config.json", quantization=said)
    with pytest.raises(ModelError, match=r"(?s)mlx-vlm does not load .*shape"):
        PLUGIN.reopen(export, out)
    # not one of those in the file, and mlx-vlm says nothing
    del said[path]
    change(out / "config.json", quantization={**said, "bits": 4, "group_size": 128})
    with pytest.raises(ModelError):
        PLUGIN.reopen(export, out)
