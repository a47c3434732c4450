"""What is written for MLX is what MLX multiplies by, to the last bit."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from allocator.core.allocation import Allocation, Choice, Scheme, stored_size
from allocator.core.errors import ModelError, SpecError
from allocator.core.holding import MODELS
from allocator.core.plugins import load
from allocator.embedded import model_folder
from allocator.exporters._export import Export
from allocator.exporters._hub import hub_of
from allocator.exporters._mlx_models import KNOWN, check_settings
from allocator.exporters._mlx_reopened import PYTHON
from allocator.exporters.mlx import PLUGIN, parts
from allocator.families import family_of
from quant.grid import Cell, decode, round_to_nearest
from tests.exporters.models import checkpoint_of, random_model, with_exceptions
from tests.states import made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.exporters._checkpoint import Checkpoint

WIDTHS = (2, 3, 4, 5, 6, 8)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    random_model(folder, "llava", 128)
    return folder


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No mlx-vlm is known."""
    monkeypatch.setattr("allocator.exporters.mlx.runtime_python", lambda: None)
    return


def export_of(checkpoint: Checkpoint, **options: str) -> Export:
    return Export({}, lambda: checkpoint, options=options)


def written(export: Export, out: Path) -> Path:
    out.mkdir()
    PLUGIN.check(export)
    PLUGIN.write(export, out, lambda _, __: None)
    return out


def holding(checkpoint: Checkpoint) -> Any:
    """A model of ours that holds what was written."""
    model = family_of(checkpoint.folder).load(checkpoint.folder, "cpu")
    for name, value in checkpoint.rest():
        model.module.get_parameter(name).data = value.float()
    for name in checkpoint.low:
        model.module.get_submodule(name).weight.data = checkpoint.weight(name)
    return model


def under(checkpoint: Checkpoint, allocation: Allocation, scheme: Scheme) -> Checkpoint:
    """The same model with other widths on another grid."""

    def cell(name: str) -> Cell:
        weight = checkpoint.model.module.get_submodule(name).weight.detach()
        return round_to_nearest(weight, scheme, other.low[name].bits)

    other = replace(checkpoint, allocation=allocation, scheme=scheme, cell=cell)
    return other


def tiny(folder: Path, family: str, variant: str) -> Checkpoint:
    made(load("allocator.families", family), folder, variant)
    return checkpoint_of(folder, scheme=Scheme(64))


def test_a_row_is_one_stream_of_words_and_a_bias_is_what_the_zero_stands_for() -> None:
    codes = torch.zeros(1, 32, dtype=torch.uint8)
    codes[0, :3] = torch.tensor([1, 2, 7])
    codes[0, 10] = 5
    cell = Cell(
        codes=codes,
        scale=torch.tensor([[0.5]], dtype=torch.float16),
        zero=torch.tensor([[3]], dtype=torch.uint8),
        columns=32,
        bits=3,
    )
    found = parts(cell, "here")
    # 1 + 2 * 8 + 7 * 64; the tenth code begins at bit 30, its third bit is in word 1
    first = 1 + 16 + 448 + (5 % 4) * 2**30
    assert found["weight"].tolist() == [[first, 5 // 4, 0]]
    assert found["weight"].dtype == torch.uint32
    assert found["scales"].tolist() == [[0.5]]
    assert found["biases"].tolist() == [[-1.5]]
    assert found["biases"].dtype == torch.float32


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_it_reads_back_exactly_at_every_width(
    llava: Path, tmp_path: Path, size: int, symmetric: bool
) -> None:
    checkpoint = checkpoint_of(llava, scheme=Scheme(size, symmetric=symmetric))
    export = export_of(checkpoint)
    reopened = PLUGIN.reopen(export, written(export, tmp_path / "out"))
    assert reopened is not None
    assert "reader" in reopened.loader
    assert {choice.bits for choice in checkpoint.low.values()} == set(WIDTHS)
    for name in checkpoint.low:
        assert torch.equal(reopened.weight(name), checkpoint.weight(name))


def test_it_holds_every_part_once_by_its_path_in_mlx_vlm(
    llava: Path, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(llava, widths=(4, 16, 3))
    out = written(export_of(checkpoint), tmp_path / "out")
    with safe_open(out / "model.safetensors", framework="np") as opened:
        names = set(opened.keys())
    config = json.loads((out / "config.json").read_text())
    quantized = {k for k, v in config["quantization"].items() if isinstance(v, dict)}
    assert len(quantized) == len(checkpoint.low)
    for part in ("scales", "biases"):
        assert {f"{path}.{part}" for path in quantized} == {
            name for name in names if name.endswith(f".{part}")
        }
    assert "language_model.model.layers.0.mlp.down_proj" in quantized
    assert "multi_modal_projector.linear_1.bias" in names
    assert "language_model.lm_head.weight" in names
    tower = "vision_tower.vision_model.embeddings.patch_embedding.weight"
    # of a convolution the channels are behind
    assert load_file(out / "model.safetensors")[tower].shape == (128, 14, 14, 3)
    assert config["quantization_config"] == config["quantization"]
    assert (out / "tokenizer.json").is_file()


@pytest.mark.slow
def test_claimed_and_stored_are_the_same_for_fifty_allocations(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpoint_of(llava)
    # the files around the weights are the same each time, and are not counted
    around = hub_of(checkpoint)
    monkeypatch.setattr("allocator.exporters.mlx.hub_of", lambda _: around)
    spec, draw = checkpoint.spec, np.random.default_rng(0)
    rng = random.Random(0)
    for number in range(50):
        widths = draw.choice([*WIDTHS, 16], len(spec.keys)).tolist()
        size = int(draw.choice([32, 64, 128]))
        chosen = [Choice(b, None if b == 16 else "uniform") for b in widths]
        allocation = Allocation.of(spec.keys, dict(zip(spec.keys, chosen, strict=True)))
        scheme = Scheme(size, symmetric=bool(number % 2), target="mlx")
        each = under(checkpoint, allocation, scheme)
        each = with_exceptions(each, (*WIDTHS, 16), rng)
        asked = "fp16" if number % 3 == 0 else "fp32"
        export = export_of(each, scales=asked)
        out = written(export, tmp_path / str(number))
        layout = PLUGIN.layout(export)
        claimed = stored_size(spec, scheme, each.allocation, layout).model_bytes
        assert PLUGIN.stored(out) == claimed


@pytest.mark.usefixtures("alone")
def test_fp16_scales_keep_every_code_and_are_off_by_part_of_a_step(
    llava: Path, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(llava)
    export = export_of(checkpoint, scales="fp16")
    reopened = PLUGIN.reopen(export, written(export, tmp_path / "out"))
    assert reopened is not None
    errors, steps = [], reopened.tolerance.weights
    for name in checkpoint.low:
        cell = checkpoint.cell(name)
        off = (reopened.weight(name) - decode(cell.codes, cell)).abs().amax(1)
        errors.append(float((off / cell.scale.float().amin(1)).max()))
    # of 255 steps at most, and fp16 rounds by a 2048th
    assert steps == 255 / 2048
    assert 0 < max(errors) <= steps


def test_fp16_scales_that_are_beyond_fp16_are_refused() -> None:
    weight = torch.full((1, 32), -60000.0)
    weight[0, 0] = 60000.0
    cell = round_to_nearest(weight, Scheme(32, scales="bfloat16"), 2)
    wide = replace(cell, scale=cell.scale * 4)
    with pytest.raises(SpecError, match="here with fp16 scales"):
        parts(wide, "here", half=True)


@pytest.mark.parametrize(
    ("family", "variant", "kind"),
    [
        ("blip2", "opt", "blip-2"),
        ("gemma3", "gemma3", "gemma3"),
        ("internvl", "qwen3", "internvl"),
        ("llava", "next", "llava_next"),
        ("smolvlm", "smolvlm", "smolvlm"),
    ],
)
def test_what_mlx_vlm_runs_otherwise_is_refused_by_name(
    tmp_path: Path, family: str, variant: str, kind: str
) -> None:
    with pytest.raises(SpecError, match=rf"type '{kind}' as .*can hold llava"):
        PLUGIN.check(export_of(tiny(tmp_path, family, variant)))


def test_what_a_search_for_mlx_allows_is_what_can_be_written() -> None:
    assert KNOWN.keys() == set(MODELS["mlx"])


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("vision_config", {"hidden_act": "gelu"}, "vision_config.hidden_act is 'gelu'"),
        ("text_config", {"head_dim": 32}, "heads are 32 wide"),
        ("text_config", {"attention_bias": True}, "attention_bias is True"),
    ],
)
def test_settings_that_mlx_vlm_does_not_read_are_refused(
    llava: Path, where: str, value: dict[str, Any], said: str
) -> None:
    config = family_of(llava).outline(llava).module.config
    check_settings(config)
    for name, changed in value.items():
        setattr(getattr(config, where), name, changed)
    with pytest.raises(SpecError, match=said):
        check_settings(config)


def test_groups_that_mlx_has_not_are_refused(llava: Path) -> None:
    export = export_of(checkpoint_of(llava, scheme=Scheme("channel")))
    with pytest.raises(SpecError, match="256 of its inputs share a scale"):
        PLUGIN.check(export)


@pytest.mark.usefixtures("alone")
def test_a_tensor_that_is_gone_is_named(llava: Path, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(llava)
    export = export_of(checkpoint)
    out = written(export, tmp_path / "out")
    tensors = load_file(out / "model.safetensors")
    gone = "multi_modal_projector.linear_1.scales"
    del tensors[gone]
    save_file(tensors, out / "model.safetensors")
    reopened = PLUGIN.reopen(export, out)
    assert reopened is not None
    with pytest.raises(ModelError, match=gone):
        reopened.weight("model.multi_modal_projector.linear_1")


def test_a_python_that_is_none_is_named(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = export_of(checkpoint_of(llava))
    monkeypatch.setenv(PYTHON, str(tmp_path / "python"))
    with pytest.raises(ModelError, match=f"{PYTHON} names {tmp_path}/python"):
        PLUGIN.reopen(export, tmp_path)


@pytest.mark.usefixtures("alone")
def test_a_head_that_is_the_embeddings_is_stored_as_these(tmp_path: Path) -> None:
    folder = model_folder("tiny-llava")
    made = checkpoint_of(folder, scheme=Scheme(64))
    spec = family_of(folder).spec(folder, "component", ("head",))
    allocation = Allocation.uniform(spec, Choice(8, "uniform"))
    checkpoint = under(replace(made, spec=spec), allocation, made.scheme)
    export = export_of(checkpoint)
    out = written(export, tmp_path / "out")
    names = set(load_file(out / "model.safetensors"))
    assert "language_model.model.embed_tokens.scales" in names
    assert not any("lm_head" in name for name in names)
    reopened = PLUGIN.reopen(export, out)
    assert reopened is not None
    assert torch.equal(reopened.weight("lm_head"), checkpoint.weight("lm_head"))
    claimed = stored_size(spec, made.scheme, allocation, "mlx").model_bytes
    assert PLUGIN.stored(out) == claimed
