"""Checkpoints in AutoRound's format: their words, their names, and who reads them."""

from __future__ import annotations

import random
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from allocator.core.allocation import Allocation, Choice, Scheme, stored_size
from allocator.core.errors import SpecError
from allocator.embedded import model_folder
from allocator.exporters import auto_round
from allocator.exporters._export import Export
from allocator.exporters._hub import hub_of
from allocator.exporters.auto_round import PLUGIN, packed, quantization_config
from allocator.families import _tiny, family_of
from allocator.families.llava import PLUGIN as LLAVA
from quant.grid import Cell, decode, round_to_nearest
from tests.exporters.models import checkpoint_of, random_model, with_exceptions

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.exporting import Reopened
    from allocator.exporters._checkpoint import Checkpoint

WIDTHS = (2, 3, 4, 5, 6, 8)
installed = pytest.mark.skipif(
    find_spec("auto_round") is None, reason="auto-round is not installed"
)


def cell_of(bits: int, *, symmetric: bool = False, columns: int = 64) -> Cell:
    weight = torch.randn(96, 128, generator=torch.Generator().manual_seed(bits))
    return round_to_nearest(weight, Scheme(columns, symmetric), bits)


def written(made: Checkpoint, out: Path) -> Export:
    export = Export({}, lambda: made)
    PLUGIN.check(export)
    out.mkdir()
    PLUGIN.write(export, out, lambda _done, _all: None)
    return export


def wrong(made: Checkpoint, reopened: Reopened) -> list[str]:
    """Linears that read as something else, to the last bit."""
    return [n for n in made.low if not torch.equal(reopened.weight(n), made.weight(n))]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava") / "source"
    random_model(folder, "llava", 128)
    return folder


def test_codes_run_down_a_column_and_cross_from_word_to_word() -> None:
    codes = torch.zeros(32, 32, dtype=torch.uint8)
    # inputs 0, 1 and 10 of output 5: bits 0 to 2, 3 to 5, and 30 to 32
    codes[5, [0, 1, 10]] = torch.tensor([5, 6, 7], dtype=torch.uint8)
    zero = torch.zeros(32, 1, dtype=torch.uint8)
    # outputs 1 and 31: bits 3 to 5 of the first word, 29 to 31 of the last
    zero[[1, 31], 0] = torch.tensor([2, 4], dtype=torch.uint8)
    scale = torch.arange(1, 33).view(32, 1).half()
    made = packed("a", Cell(codes=codes, scale=scale, zero=zero, columns=32, bits=3))
    # 5 + 6 * 8 + the two lowest bits of 7 on top, where int32 keeps the sign
    assert made["qweight"][:, 5].tolist() == [5 + 48 - 2**30, 1, 0]
    assert made["qweight"].shape == (3, 32)
    assert int(made["qweight"].count_nonzero()) == 2
    # 4 is bit 31
    assert made["qzeros"].tolist() == [[2 * 8, 0, -(2**31)]]
    assert made["scales"].tolist() == [list(range(1, 33))]
    assert {t.dtype for t in made.values()} == {torch.int32, torch.float16}


@installed
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("bits", WIDTHS)
def test_auto_round_packs_the_same_bytes(bits: int, symmetric: bool) -> None:
    from auto_round_extension.torch.qlinear_torch import QuantLinear

    cell = cell_of(bits, symmetric=symmetric)
    linear = torch.nn.Linear(128, 96, bias=False)
    linear.weight.data = decode(cell.codes, cell)
    theirs = QuantLinear(bits, 64, 128, 96, bias=False)
    # packing asks for it, and the class has none
    theirs.device = "cpu"
    zeros = 2 ** (bits - 1) if symmetric else cell.zero_point
    theirs.pack(linear, cell.scale.float(), zeros, device="cpu")
    for name, tensor in packed("a", cell).items():
        assert torch.equal(getattr(theirs, name), tensor), name


@installed
@pytest.mark.parametrize("bits", WIDTHS)
def test_auto_round_computes_with_the_weights_of_the_cell(bits: int) -> None:
    from auto_round_extension.torch.qlinear_torch import QuantLinear

    cell = cell_of(bits)
    theirs = QuantLinear(bits, 64, 128, 96, bias=False)
    theirs.load_state_dict(packed("a", cell))
    wanted = decode(cell.codes, cell)
    assert torch.equal(auto_round.unpacked(theirs), wanted)
    # in 16 bits it rounds each weight once
    assert torch.equal(theirs(torch.eye(128).half()).t(), wanted.half())
    assert torch.equal(theirs.float()(torch.eye(128)).t(), wanted)


def test_a_scale_beyond_float16_is_refused() -> None:
    cell = cell_of(4)
    small = torch.full_like(cell.scale, 3 * 2.0**-24, dtype=torch.bfloat16)
    packed("a", Cell(**{**vars(cell), "scale": small}))
    odd = torch.full_like(cell.scale, 3 * 2.0**-25, dtype=torch.bfloat16)
    with pytest.raises(SpecError, match=r"float16, which does not hold all of a\.b"):
        packed("a.b", Cell(**{**vars(cell), "scale": odd}))


def test_config_names_every_linear_and_where_blocks_are(llava: Path) -> None:
    made = checkpoint_of(llava, (4, 16, 3), granularity="component")
    said = quantization_config(made)
    each = said["extra_config"]
    tower = "model.vision_tower.encoder.layers"
    language = "model.language_model.layers"
    assert said["block_name_to_quantize"] == f"{tower},{language}"
    assert (said["quant_method"], said["packing_format"]) == (
        "auto-round",
        "auto_round",
    )
    assert each[f"{language}.1.mlp.up_proj"] == {
        **{"bits": 3, "group_size": 128, "sym": False, "data_type": "int"}
    }
    assert each["model.multi_modal_projector.linear_1"] == {"bits": 16}
    assert each["lm_head"] == {"bits": 16}
    linears = [
        name
        for name, module in made.model.module.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    assert list(each) == linears


def test_rows_without_a_group_size_of_their_own_are_minus_one(llava: Path) -> None:
    made = checkpoint_of(llava, (4,), scheme=Scheme("channel"))
    sizes = {
        e.get("group_size") for e in quantization_config(made)["extra_config"].values()
    }
    assert sizes == {-1, None}


@pytest.mark.parametrize(
    "scheme", [Scheme(), Scheme(64, symmetric=True), Scheme("channel")]
)
def test_bytes_on_disk_are_those_claimed(
    llava: Path, tmp_path: Path, scheme: Scheme
) -> None:
    made = checkpoint_of(llava, (2, 16, 3, 5, 6, 8, 4), scheme=scheme)
    written(made, tmp_path / "out")
    claimed = stored_size(made.spec, scheme, made.allocation, "auto-round")
    assert PLUGIN.stored(tmp_path / "out") == claimed.model_bytes


@pytest.mark.slow
def test_claimed_bytes_are_on_disk_for_fifty_random_allocations(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, rng = checkpoint_of(llava), random.Random(0)
    # the files around the weights are the same each time, and are not counted
    around = hub_of(whole)
    monkeypatch.setattr(auto_round, "hub_of", lambda _: around)
    for number in range(50):
        scheme = Scheme(rng.choice((32, 64, 128)), rng.random() < 0.5)
        # any widths of the groups, and others of a third of the linears
        made = replace(whole, scheme=scheme)
        for _ in range(3):
            made = with_exceptions(made, (*WIDTHS, 16), rng)
        written(made, tmp_path / str(number))
        claimed = stored_size(made.spec, scheme, made.allocation, "auto-round")
        assert PLUGIN.stored(tmp_path / str(number)) == claimed.model_bytes


def test_names_are_the_sources_with_three_tensors_in_place_of_a_weight(
    llava: Path, tmp_path: Path
) -> None:
    made = checkpoint_of(llava, (4,), granularity="component")
    written(made, tmp_path / "out")
    names = {
        key
        for name in load_file(llava / "model.safetensors")
        for key in (
            [name]
            if not is_low(name)
            else [f"{name.removesuffix('weight')}{kind}" for kind in auto_round.KINDS]
        )
    }
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == names


def is_low(name: str) -> bool:
    """Whether a tensor of a LLaVA is the weight of a linear in its groups."""
    parts = ("_proj.weight", ".fc1.weight", ".fc2.weight", "linear_1.weight")
    return name.endswith((*parts, "linear_2.weight"))


def test_without_auto_round_the_files_are_read(
    llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_round, "installed", lambda *_: None)
    made = checkpoint_of(llava, (*WIDTHS, 16), scheme=Scheme(32))
    export = written(made, tmp_path / "out")
    found = PLUGIN.reopen(export, tmp_path / "out")
    assert "auto-round is not installed" in found.loader
    assert wrong(made, found) == []
    assert found.logits([]) is None


def test_what_it_cannot_hold_is_refused(llava: Path) -> None:
    tensor = checkpoint_of(llava, (4,), scheme=Scheme("tensor"))
    blip2 = checkpoint_of(model_folder("tiny-blip2"), (4,), granularity="component")
    for made, said in (
        (tensor, "another --group-size than tensor"),
        (blip2, "query tokens for the weights of experts; export compressed-tensors"),
    ):
        with pytest.raises(SpecError, match=said):
            PLUGIN.check(Export({}, lambda made=made: made))


def with_extra(folder: Path, kind: str) -> Checkpoint:
    """A checkpoint whose head or embeddings are at 4 bits, as all else."""
    made = checkpoint_of(folder, (4,))
    spec = family_of(folder).spec(folder, include=(kind,))

    def cell(name: str) -> Cell:
        weight = made.model.module.get_submodule(name).weight.detach()
        return round_to_nearest(weight, made.scheme, 4)

    allocation = Allocation.uniform(spec, Choice(4, "uniform"))
    return replace(made, spec=spec, allocation=allocation, cell=cell)


def test_embeddings_are_not_packed_nor_what_is_one_with_them(
    llava: Path, tmp_path: Path
) -> None:
    random_model(tmp_path / "tied", "qwen3-vl", 128)
    for folder, kind in ((llava, "embeddings"), (tmp_path / "tied", "head")):
        made = with_extra(folder, kind)
        with pytest.raises(SpecError, match="auto-round packs no embeddings"):
            PLUGIN.check(Export({}, lambda made=made: made))


def narrow(folder: Path, monkeypatch: pytest.MonkeyPatch, **sizes: int) -> Checkpoint:
    """A LLaVA with rows of other lengths."""
    for name, size in sizes.items():
        monkeypatch.setitem(_tiny.SIZES, name, size)
    LLAVA.tiny(folder, "1.5")
    return checkpoint_of(folder, WIDTHS)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"intermediate_size": 144}, r"fc1 has 144 outputs, .* multiples of 32 alone"),
        ({"hidden_size": 80}, r"k_proj has 80 inputs, .* multiples of 32 alone"),
    ],
)
def test_sizes_that_fill_no_words_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int], said: str
) -> None:
    made = narrow(tmp_path / "source", monkeypatch, **sizes)
    with pytest.raises(SpecError, match=said):
        PLUGIN.check(Export({}, lambda: made))
