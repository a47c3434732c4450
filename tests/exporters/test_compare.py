"""Weights and logits are held against what was to be written, and was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.errors import ModelError
from allocator.exporters._compare import (
    as_measured,
    as_written,
    difference,
    distinct_codes,
    staged_logits,
)
from allocator.families import family_of
from quant.grid import Cell, decode, round_to_nearest
from tests.exporters.models import checkpoint_of, random_model, some_samples

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.exporters._checkpoint import Checkpoint


def cell_of(codes: list[list[int]], columns: int, bits: int = 4) -> Cell:
    """Steps of a half, zero at code 2."""
    groups = len(codes[0]) // columns
    shape = (len(codes), groups)
    return Cell(
        codes=torch.tensor(codes, dtype=torch.uint8),
        scale=torch.full(shape, 0.5, dtype=torch.float16),
        zero=torch.full(shape, 2, dtype=torch.uint8),
        columns=columns,
        bits=bits,
    )


def test_codes_are_counted_by_group() -> None:
    cell = cell_of([[0, 1, 1, 3, 3, 3], [15, 15, 0, 1, 2, 3]], 3)
    # 0 1 1 | 3 3 3, and below them 15 15 0 | 1 2 3
    assert distinct_codes(cell.codes, cell).tolist() == [2, 1, 2, 3]


def test_one_grid_for_a_matrix_is_one_group() -> None:
    weight = torch.tensor([[0.0, 1.0, 2.0], [3.0, 3.0, 3.0]])
    cell = round_to_nearest(weight, Scheme("tensor"), 2)
    assert distinct_codes(cell.codes, cell).tolist() == [4]


def test_equal_weights_differ_by_nothing() -> None:
    cell = cell_of([[0, 1, 2, 3]], 2)
    error, codes = difference("a", cell, decode(cell.codes, cell), 0.0)
    assert error == 0
    assert torch.equal(codes, cell.codes)


def test_a_loader_with_coarser_scales_is_measured_in_steps() -> None:
    cell = cell_of([[0, 1, 2, 3]], 2)
    # the last weight, 0.5, is read as 0.55: a tenth of its step of a half
    read = torch.tensor([[-1.0, -0.5, 0.0, 0.55]])
    error, codes = difference("a", cell, read, 0.2)
    assert error == pytest.approx(0.1)
    assert torch.equal(codes, cell.codes)
    with pytest.raises(ModelError, match=r"a does not read .* by up to 0\.1 steps"):
        difference("a", cell, read, 0.05)


def test_another_code_is_refused_however_wide_the_tolerance() -> None:
    cell = cell_of([[0, 1, 2, 3]], 2)
    read = torch.tensor([[-1.0, -0.5, 0.0, 1.0]])
    with pytest.raises(ModelError, match="1 of 4 codes differ"):
        difference("a", cell, read, 2.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("model")
    random_model(folder / "model", "qwen3-vl", 128, dtype=torch.bfloat16)
    samples = some_samples(folder / "pictures")
    return checkpoint_of(folder / "model", (3, 4, 8, 16), samples=samples)


def whole_logits(made: Checkpoint) -> torch.Tensor:
    """Of the model that transformers loads, its parameters as they are written."""
    model = family_of(made.folder).load(made.folder, "cpu")
    rest = dict(made.rest())
    for name, parameter in model.module.named_parameters():
        linear = name.removesuffix(".weight")
        value = made.weight(linear) if linear in made.low else rest[name]
        parameter.data = value.float()
    found = []
    with torch.inference_mode():
        for sample in made.samples:
            state = model.inputs([sample])
            found.append(model.module(**state, use_cache=False).logits[:, -1].float())
    return torch.cat(found)


def test_stage_by_stage_is_the_whole_model(made: Checkpoint) -> None:
    before = {n: p.clone() for n, p in made.model.module.named_parameters()}
    found = staged_logits(made, as_written(made))
    assert found.shape == (2, 320)
    assert torch.allclose(found, whole_logits(made), atol=1e-5)
    # the mapped model is as it was, in the type of its files
    for name, parameter in made.model.module.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.dtype == torch.bfloat16


def test_what_folding_changed_is_in_the_logits(made: Checkpoint) -> None:
    name = "model.language_model.norm.weight"
    norm = dict(made.model.module.named_parameters())[name].detach()
    doubled = replace(made, changed={name: 2 * norm})
    plain, changed = (staged_logits(m, as_written(m)) for m in (made, doubled))
    # nothing but the head, which is linear, follows
    assert torch.allclose(changed, 2 * plain, atol=1e-5)
    assert dict(doubled.rest())[name].tolist() == (2 * norm).tolist()


def test_measured_weights_leave_the_rest_as_it_is(made: Checkpoint) -> None:
    name = "model.language_model.norm.weight"
    norm = dict(made.model.module.named_parameters())[name].detach()
    other = replace(made, changed={name: 2 * norm}, measured=made.weight)
    measured = staged_logits(other, as_measured(other))
    assert torch.allclose(measured, staged_logits(made, as_written(made)), atol=1e-6)


def test_a_head_tied_to_the_embeddings_is_decoded_for_both(tmp_path: Path) -> None:
    random_model(tmp_path / "model", "qwen3-vl", 128)
    samples = some_samples(tmp_path / "pictures")
    family = family_of(tmp_path / "model")
    spec = family.spec(tmp_path / "model", "component", ("head", "embeddings"))
    low = {
        k: Choice(8 if "head" in k else 16, "uniform" if "head" in k else None)
        for k in spec.keys
    }
    made = checkpoint_of(tmp_path / "model", (16,), samples=samples)
    made = replace(made, spec=spec, allocation=Allocation.of(spec.keys, low))
    (head,) = made.low
    model = made.model.module
    matrix = model.get_submodule(head).weight

    def cell(name: str) -> Cell:
        assert name == head
        return round_to_nearest(matrix.detach(), made.scheme, 8)

    made = replace(made, cell=cell)
    names = [name for name, _ in made.rest()]
    tied = [n for n, p in model.named_parameters(remove_duplicate=False) if p is matrix]
    assert len(tied) == 2
    # stored as codes, and not once more
    assert not set(tied) & set(names)
    found = staged_logits(made, as_written(made))
    whole = family.load(tmp_path / "model", "cpu")
    whole.module.get_submodule(head).weight.data = made.weight(head)
    whole.module.get_input_embeddings().weight = whole.module.get_submodule(head).weight
    with torch.inference_mode():
        wanted = [
            whole.module(**whole.inputs([s]), use_cache=False).logits[:, -1]
            for s in samples
        ]
    assert torch.allclose(found, torch.cat(wanted), atol=1e-5)
