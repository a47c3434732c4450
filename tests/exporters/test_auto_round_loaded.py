"""AutoRound's format as transformers with auto-round reads it."""

from __future__ import annotations

import json
import random
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Scheme
from allocator.core.errors import ModelError
from allocator.exporters._loaded import next_logits
from allocator.exporters.auto_round import PLUGIN
from allocator.families import family_of
from tests.exporters.models import (
    checkpoint_of,
    random_model,
    some_samples,
    with_exceptions,
)
from tests.exporters.test_auto_round import (
    WIDTHS,
    installed,
    narrow,
    with_extra,
    written,
    wrong,
)
from tests.exporters.test_compressed_tensors_card import ANSWER, run

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from allocator.exporters._checkpoint import Checkpoint


def loaded_bytes(module: torch.nn.Module) -> int:
    held = {t.data_ptr(): t for t in chain(module.parameters(), module.buffers())}
    return sum(tensor.nbytes for tensor in held.values())


FORMS = {
    "qwen3-vl": ("hub", torch.bfloat16, Scheme(32, scales="bfloat16")),
    "qwen2.5-vl": ("transformers5", torch.float32, Scheme("channel", symmetric=True)),
    "llava": ("hub", torch.float16, Scheme()),
}


@installed
@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMS)
def test_transformers_reads_what_was_measured_and_keeps_it_packed(
    kind: str, tmp_path: Path
) -> None:
    form, dtype, scheme = FORMS[kind]
    random_model(tmp_path / "source", kind, 128, form, dtype)
    samples = some_samples(tmp_path / "pictures")
    made = checkpoint_of(
        tmp_path / "source", (*WIDTHS, 16), scheme=scheme, samples=samples
    )
    made = with_exceptions(made, (*WIDTHS, 16), random.Random(0))
    export = written(made, tmp_path / "out")
    found = PLUGIN.reopen(export, tmp_path / "out")
    assert wrong(made, found) == []
    ours = as_written(made)
    close = 1e-5 * (ours.max() - ours.min())
    assert torch.allclose(found.logits(samples), ours, rtol=0, atol=close)
    # and as a user loads it
    user = type(made.model.module).from_pretrained(tmp_path / "out")
    assert user.dtype == made.dtype
    before = loaded_bytes(user)
    inputs = found.model.inputs(samples[:1])
    inputs = {
        k: v.to(user.dtype) if v.is_floating_point() else v for k, v in inputs.items()
    }
    with torch.no_grad():
        replied = user(**inputs).logits[:, -1].float()
    coarse = 2e-2 * (ours.max() - ours.min())
    assert torch.allclose(replied, ours[:1], rtol=0, atol=coarse)
    assert loaded_bytes(user) == before
    # beside what is stored, the frequencies of positions
    assert before < PLUGIN.stored(tmp_path / "out") + 1_000


@installed
@pytest.mark.slow
def test_the_cards_lines_load_it_and_it_answers(tmp_path: Path) -> None:
    random_model(tmp_path / "source", "llava", 128)
    some_samples(tmp_path / "pictures", 1)
    made = checkpoint_of(tmp_path / "source", WIDTHS)
    run(PLUGIN.usage(written(made, tmp_path / "out")) + ANSWER, tmp_path)


def as_written(made: Checkpoint) -> Tensor:
    """Logits of a dense model that holds the weights as they are written."""
    dense = family_of(made.folder).load(made.folder, "cpu")
    for name, value in made.rest():
        dense.module.get_parameter(name).data.copy_(value)
    for name in made.low:
        dense.module.get_submodule(name).weight.data.copy_(made.weight(name))
    return next_logits(dense, made.samples)


@installed
@pytest.mark.slow
def test_rows_of_any_whole_words_and_a_head_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # groups of 64 and 32 in the place of 128, as 320 and 160 divide
    sizes = {"hidden_size": 160, "intermediate_size": 320}
    made = narrow(tmp_path / "narrow", monkeypatch, **sizes)
    random_model(tmp_path / "llava", "llava", 128)
    head = with_extra(tmp_path / "llava", "head")
    for n, each in enumerate((made, head)):
        export = written(each, tmp_path / str(n))
        assert wrong(each, PLUGIN.reopen(export, tmp_path / str(n))) == []


@installed
@pytest.mark.slow
def test_what_is_no_longer_packed_is_an_error(tmp_path: Path) -> None:
    random_model(tmp_path / "source", "llava", 128)
    made = checkpoint_of(tmp_path / "source", (4,), granularity="component")
    export = written(made, tmp_path / "out")
    file = tmp_path / "out" / "config.json"
    config = json.loads(file.read_text())
    said = config["quantization_config"]
    name = "model.language_model.layers.0.mlp.up_proj"

    def reopened(**changes: Any) -> None:
        changed = {**said, **changes}
        file.write_text(json.dumps({**config, "quantization_config": changed}))
        PLUGIN.reopen(export, tmp_path / "out")

    reopened()
    for each in ({"bits": 16}, {**said["extra_config"][name], "bits": 3}):
        with pytest.raises(ModelError):
            reopened(extra_config={**said["extra_config"], name: each})
    with pytest.raises(ModelError):
        reopened(packing_format="auto_round:auto_gptq", sym=True)
