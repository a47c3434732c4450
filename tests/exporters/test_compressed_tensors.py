"""What is written in pack-quantized format is read by transformers, to the last bit."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from allocator.core.allocation import FULL, Scheme, stored_size
from allocator.core.errors import ModelError, SpecError
from allocator.core.plugins import load
from allocator.exporters import compressed_tensors as exporter
from allocator.exporters._export import Export
from allocator.exporters._published import PUBLISHED
from allocator.exporters._shards import SINGLE
from allocator.exporters.compressed_tensors import PLUGIN, packed, unread
from allocator.families._modules import scale_type
from quant.grid import LOW_WIDTHS, round_to_nearest
from tests.exporters.models import (
    KINDS,
    checkpoint_of,
    random_model,
    some_samples,
    with_exceptions,
)
from tests.exporters.written import expected, needs_library, written
from tests.families.checkpoints import change
from tests.states import TITLES, VARIANTS, logits_of, made

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.exporting import Reopened
    from allocator.exporters._checkpoint import Checkpoint
    from tests.exporters.models import Form

WIDTHS = (2, 3, 4, 5, 6, 8, FULL)


def check_weights(made: Checkpoint, reopened: Reopened) -> None:
    assert made.low
    for name in made.low:
        assert torch.equal(reopened.weight(name), made.weight(name)), name


def change_types(folder: Path, dtype: torch.dtype) -> None:
    """Store a checkpoint's weights in another type."""
    from safetensors.torch import save_file

    file = folder / SINGLE
    weights = {name: value.to(dtype) for name, value in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def publish(folder: Path) -> None:
    """Let a model of a kind whose published names nobody knows pass for published."""
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    if kind not in PUBLISHED:
        change(folder / "config.json", transformers_version="4.57.0")


@needs_library
@pytest.mark.parametrize(("family", "variant"), VARIANTS, ids=TITLES)
def test_every_family_reads_as_it_was_written(
    family: str, variant: str, tmp_path: Path
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    state = made(load("allocator.families", family), source, variant)
    publish(source)
    wanted = with_exceptions(checkpoint_of(source, WIDTHS), WIDTHS, random.Random(0))
    if family == "molmo2" or any(x.is_expert for x in wanted.spec.linears):
        # several matrices are one tensor in its files, or experts have no place
        with pytest.raises((ModelError, SpecError), match=r"is made of|experts"):
            PLUGIN.check(Export({}, lambda: wanted))
        return
    export = written(wanted, out)
    reopened = PLUGIN.reopen(export, out)
    assert reopened is not None
    assert reopened.loader.startswith("transformers ")
    check_weights(wanted, reopened)
    size = stored_size(wanted.spec, wanted.scheme, wanted.allocation, "transformers")
    assert PLUGIN.stored(out) == size.model_bytes
    ours, theirs = (
        logits_of(model, dict(state)) for model in (expected(wanted), reopened.model)
    )
    assert torch.equal(theirs, ours)


@needs_library
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "scheme", [Scheme(32), Scheme("channel", True), Scheme(64, True)]
)
def test_types_and_grids_of_all_kinds_are_read(
    dtype: torch.dtype, scheme: Scheme, tmp_path: Path
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    state = made(load("allocator.families", "llava"), source)
    change_types(source, dtype)
    scheme = replace(scheme, scales=scale_type(source))
    wanted = checkpoint_of(source, LOW_WIDTHS, scheme=scheme)
    half = torch.bfloat16 if dtype == torch.bfloat16 else torch.float16
    assert wanted.dtype == half
    reopened = PLUGIN.reopen(written(wanted, out), out)
    assert reopened is not None
    check_weights(wanted, reopened)
    stored = load_file(out / SINGLE).values()
    assert {value.dtype for value in stored} <= {half, torch.int32, torch.int64}
    ours, theirs = (
        logits_of(model, dict(state)) for model in (expected(wanted), reopened.model)
    )
    assert torch.equal(theirs, ours)


@needs_library
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["hub", "transformers5"])
def test_published_names_are_read_and_give_the_same_logits(
    kind: str, form: Form, tmp_path: Path
) -> None:
    random_model(tmp_path / "source", kind, form=form)
    samples = some_samples(tmp_path / "pictures")
    wanted = checkpoint_of(tmp_path / "source", samples=samples)
    reopened = PLUGIN.reopen(written(wanted, tmp_path / "out"), tmp_path / "out")
    assert reopened is not None
    check_weights(wanted, reopened)
    model = expected(wanted)
    ours = [logits_of(model, model.inputs([each]))[:, -1] for each in samples]
    assert torch.equal(reopened.logits(samples), torch.cat(ours))


@needs_library
def test_what_is_too_large_to_decode_is_read_matrix_by_matrix(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    made(load("allocator.families", "llava"), source)
    wanted = with_exceptions(checkpoint_of(source, WIDTHS), WIDTHS, random.Random(0))
    written(wanted, out)
    loaded = exporter.load(
        out, "compressed-tensors", dtype="float16", read=exporter.effective, mapped=True
    )
    check_weights(wanted, loaded)
    some = loaded.model.module.get_submodule(next(iter(wanted.low)))
    assert not hasattr(some, "weight")


@needs_library
@pytest.mark.parametrize("kind", ["head", "embeddings"])
def test_a_head_and_embeddings_of_their_own_are_read(kind: str, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    made(load("allocator.families", "llava"), source)
    wanted = checkpoint_of(source, (3, 4), include=[kind])
    assert any(group.linears[0].type == kind for group in wanted.spec.groups)
    reopened = PLUGIN.reopen(written(wanted, out), out)
    assert reopened is not None
    check_weights(wanted, reopened)


@pytest.mark.parametrize(
    ("family", "variant", "said"),
    [
        ("qwen_vl", "3", "are one matrix"),
        ("blip2", "t5", "are tied in every T5"),
    ],
)
def test_a_tied_head_below_16_bits_is_refused(
    family: str, variant: str, said: str, tmp_path: Path
) -> None:
    made(load("allocator.families", family), tmp_path, variant)
    wanted = checkpoint_of(tmp_path, (3, 4), include=["head"])
    with pytest.raises(SpecError, match=said):
        PLUGIN.check(Export({}, lambda: wanted))


def test_one_scale_for_a_matrix_is_refused(tmp_path: Path) -> None:
    made(load("allocator.families", "llava"), tmp_path)
    wanted = checkpoint_of(tmp_path, (4,), scheme=Scheme("tensor"))
    with pytest.raises(SpecError, match="--group-size 128, 64, 32 or channel"):
        PLUGIN.check(Export({}, lambda: wanted))


@pytest.mark.parametrize("target", ["none", "vllm"])
@pytest.mark.parametrize("symmetric", [False, True])
def test_the_programs_own_reader_reads_what_was_written(
    target: str, symmetric: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "release_here", lambda: None)
    source, out = tmp_path / "source", tmp_path / "out"
    made(load("allocator.families", "llava"), source)
    scheme = Scheme(64, symmetric, target=target)
    wanted = with_exceptions(
        checkpoint_of(source, WIDTHS, scheme=scheme), WIDTHS, random.Random(0)
    )
    assert wanted.allocation.layers
    export = written(wanted, out)
    reopened = PLUGIN.reopen(export, out)
    assert reopened is not None
    assert "pip install 'compressed-tensors>=0.17,<0.18'" in reopened.loader
    check_weights(wanted, reopened)
    assert reopened.logits([]) is None
    layout = PLUGIN.layout(export)
    size = stored_size(wanted.spec, wanted.scheme, wanted.allocation, layout)
    assert PLUGIN.stored(out) == size.model_bytes


@pytest.mark.slow
@pytest.mark.parametrize("target", ["none", "transformers", "vllm"])
def test_fifty_random_allocations_take_the_bytes_that_are_claimed(
    target: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    made(load("allocator.families", "qwen_vl"), source, "2.5")
    rng = random.Random(0)
    for number in range(50):
        # a width for each group
        widths = rng.choices(WIDTHS, k=50)
        size, symmetric = rng.choice((32, 64, 128, "channel")), rng.random() < 0.5
        scheme = Scheme(size, symmetric, target=target)
        wanted = checkpoint_of(source, widths, scheme=scheme)
        # single linears that differ from their groups
        wanted = with_exceptions(wanted, WIDTHS, rng)
        export = written(wanted, tmp_path / str(number))
        layout = PLUGIN.layout(export)
        claimed = stored_size(wanted.spec, wanted.scheme, wanted.allocation, layout)
        assert PLUGIN.stored(tmp_path / str(number)) == claimed.model_bytes


@pytest.mark.parametrize(
    ("release", "symmetric", "widths", "target", "said"),
    [
        ("0.17.1", False, (3, 4), "none", None),
        ("0.17.0", True, (5,), "transformers", None),
        ("0.17.1", False, (3, 4), "vllm", "reads padded words"),
        ("0.17.1", False, (2, 4, 8), "vllm", None),
        ("0.20.0", False, (4,), "none", "reads no zero-points"),
        ("0.20.0", True, (3, 4), "none", "reads dense words"),
        ("0.20.0", True, (2, 4, 8), "none", None),
        ("0.20.0", True, (3, 4), "vllm", None),
        (None, True, (4,), "none", "is not installed"),
    ],
)
def test_releases_that_do_not_read_it_are_known(
    release: str | None,
    symmetric: bool,
    widths: Sequence[int],
    target: str,
    said: str | None,
    tmp_path: Path,
) -> None:
    made(load("allocator.families", "llava"), tmp_path)
    wanted = checkpoint_of(
        tmp_path, widths, scheme=Scheme(128, symmetric, target=target)
    )
    found = unread(wanted, release)
    assert (said in (found or "")) if said else found is None


@needs_library
@pytest.mark.parametrize("bits", LOW_WIDTHS)
@pytest.mark.parametrize("scheme", [Scheme(32), Scheme("channel"), Scheme(64, True)])
def test_tensors_are_those_of_compressed_tensors_own_compressor(
    bits: int, scheme: Scheme
) -> None:
    from compressed_tensors.compressors.pack_quantized import (
        PackedQuantizationCompressor,
    )
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    weight = torch.randn(40, 192, generator=torch.Generator().manual_seed(bits))
    cell = round_to_nearest(weight, scheme, bits)
    per_row = cell.columns == 192
    args = QuantizationArgs(
        num_bits=bits,
        symmetric=scheme.symmetric,
        strategy="channel" if per_row else "group",
        group_size=None if per_row else cell.columns,
    )
    ours = packed(cell, dense=False)
    state = {"weight": quantized(cell), "weight_scale": cell.scale.float()}
    if cell.zero is not None:
        signed = cell.zero.int() - 2 ** (bits - 1)
        state["weight_zero_point"] = signed.to(torch.int8)
    theirs = PackedQuantizationCompressor.compress(
        state, QuantizationScheme(targets=["Linear"], weights=args)
    )
    assert {f"weight_{name}" for name in ours} == set(theirs)
    for name, tensor in ours.items():
        other = theirs[f"weight_{name}"].to(tensor.dtype)
        assert torch.equal(tensor, other), name


def quantized(cell: Any) -> torch.Tensor:
    """Effective weights, worked out in float64 one code at a time."""
    groups = cell.codes.double().view(len(cell.codes), -1, cell.columns)
    zero = cell.zero_point.double().unsqueeze(-1)
    return ((groups - zero) * cell.scale.double().unsqueeze(-1)).flatten(1).float()


@needs_library
def test_what_transformers_misses_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    source, out = tmp_path / "source", tmp_path / "out"
    made(load("allocator.families", "llava"), source)
    export = written(checkpoint_of(source, WIDTHS), out)
    tensors = load_file(out / SINGLE)
    scale = next(name for name in tensors if name.endswith("weight_scale"))
    tensors["strange"] = tensors.pop(scale)
    save_file(tensors, out / SINGLE, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"finds no tensor .*weight_scale"):
        PLUGIN.reopen(export, out)


@needs_library
def test_a_group_that_matches_nothing_is_not_passed_over(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    made(load("allocator.families", "llava"), source)
    export = written(checkpoint_of(source, WIDTHS), out)
    config = json.loads((out / "config.json").read_text())
    first = config["quantization_config"]["config_groups"]["group_0"]
    first["targets"] = ["re:.*no_such_part$"]
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="finds no"):
        PLUGIN.reopen(export, out)
