from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Choice
from allocator.core.errors import BankError, ModelError
from allocator.core.plugins import load
from quant.assignment import Assignment
from quant.bank import MANIFEST, Bank
from quant.build import Source
from quant.cells import file_of, read_cell
from quant.sequential import quantize_in_sequence
from tests.quant.banks import FAMILY, Loaded, apart, build, prompts
from tests.quant.by_hand import by_hand, effective
from tests.quant.sequences import FULL, METHODS, assigned, in_sequence, recipe_of
from tests.states import TITLES, VARIANTS, copied, made, opened

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model, State


@pytest.fixture(scope="module", params=VARIANTS, ids=TITLES)
def tiny(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path, State, Model]:
    name, variant = request.param
    family, folder = load("allocator.families", name), tmp_path_factory.mktemp(name)
    state = made(family, folder, variant)
    return family, folder, state, family.load(folder, "cpu")


@pytest.mark.parametrize("corrected", [False, True])
def test_it_is_what_replacing_weights_one_set_at_a_time_gives(
    tiny: tuple[Any, Path, State, Model], tmp_path: Path, corrected: bool
) -> None:
    family, folder, state, loaded = tiny
    spec = family.spec(folder)
    every = [Choice(2, "gptq"), Choice(3, "awq"), FULL, Choice(3, "uniform")]
    wanted = replace(assigned(spec, *every), corrected=corrected)
    mapped = family.load(folder, "cpu", mapped=True)
    found = in_sequence(tmp_path, wanted, (mapped, spec), state)
    naive = by_hand(copied(loaded), loaded, wanted, state)
    assert set(naive) == set(found.keys) == set(wanted.keys)
    for linear in spec.linears:
        if linear.name in naive:
            weight = found.weight(linear, wanted.choices[linear.name])
            assert torch.equal(weight, effective(naive[linear.name])), linear.name
            cell = read_cell(
                file_of(found.folder, linear.name), found.keys[linear.name]
            )
            assert torch.equal(cell.codes, naive[linear.name].codes)


def test_what_is_left_at_sixteen_bits_takes_its_part_in_a_fold(tmp_path: Path) -> None:
    state = made(FAMILY, tmp_path / "model")
    loaded, spec = (
        FAMILY.load(tmp_path / "model", "cpu"),
        FAMILY.spec(tmp_path / "model"),
    )
    full = ("k_proj", "v_proj", "up_proj")
    choices = {
        x.name: FULL if x.name.endswith(full) else Choice(3, "awq")
        for x in spec.linears
    }
    wanted = Assignment(recipe_of("awq"), choices)
    mapped = FAMILY.load(tmp_path / "model", "cpu", mapped=True)
    found = in_sequence(tmp_path, wanted, (mapped, spec), state)
    own = copied(loaded)
    naive = by_hand(own, loaded, wanted, state)
    for linear in spec.linears:
        if linear.name in naive:
            weight = found.weight(linear, choices[linear.name])
            assert torch.equal(weight, effective(naive[linear.name])), linear.name
    changed = found.changed()
    for name in full:
        assert any(key.endswith(f"{name}.weight") for key in changed)
    for key, value in own.module.named_parameters():
        if key in changed:
            assert torch.equal(changed[key].float(), value), key
        elif key.removesuffix(".weight") not in naive:
            assert torch.equal(value, loaded.module.get_parameter(key)), key


def test_a_set_whose_scale_does_not_fold_is_only_clipped(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = assigned(loaded[1], Choice(3, "awq"))
    folded = in_sequence(tmp_path / "folded", wanted, apart(loaded))
    monkeypatch.setattr("quant.folding.LOSS", -1.0)
    clipped = in_sequence(tmp_path / "clipped", wanted, apart(loaded))
    assert folded.changed()
    assert not clipped.changed()
    model, spec = apart(loaded)

    class Unfoldable:
        module = model.module

        @staticmethod
        def stages() -> Any:
            return [
                replace(
                    stage,
                    siblings=tuple(replace(s, fold=None) for s in stage.siblings),
                )
                for stage in model.stages()
            ]

    same = in_sequence(tmp_path / "same", wanted, (Unfoldable(), spec))
    assert clipped.sums == same.sums != folded.sums


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_the_first_set_is_the_banks_and_later_ones_are_not(
    loaded: Loaded, tmp_path: Path, method: str, corrected: bool
) -> None:
    model, spec = loaded
    choice = Choice(3, method)
    wanted = replace(assigned(spec, choice), corrected=corrected)
    found = in_sequence(tmp_path, wanted, apart(loaded))
    # of that width alone: how a float32 sum is rounded hangs on who is stacked with it
    recipe = recipe_of(method, widths=(3, 16))
    build(tmp_path, recipe, apart(loaded))
    bank = opened(tmp_path / recipe.digest, recipe, loaded)
    same = {
        linear.name
        for linear in spec.linears
        if torch.equal(
            bank.cell(linear, choice).codes, found.cell(linear, choice).codes
        )
    }
    sets = [s.names for stage in model.stages() for s in stage.siblings]
    grouped = [names for names in sets if names[0] in found.choices]
    assert same == set(grouped[0])


def test_rounding_that_makes_up_for_nothing_equals_the_banks(
    loaded: Loaded, tmp_path: Path
) -> None:
    _, spec = loaded
    choice = Choice(3, "uniform")
    wanted = replace(assigned(spec, choice), corrected=False)
    found = in_sequence(tmp_path, wanted, apart(loaded))
    recipe = recipe_of("uniform")
    build(tmp_path, recipe, apart(loaded))
    bank = opened(tmp_path / recipe.digest, recipe, loaded)
    for linear in spec.linears:
        assert bank.cell_sum(linear, choice) == found.cell_sum(linear, choice)
        assert torch.equal(bank.weight(linear, choice), found.weight(linear, choice))


def test_with_only_the_last_linear_quantized_it_is_the_banks(
    loaded: Loaded, tmp_path: Path
) -> None:
    # nothing before it is quantized, so it reads what the bank calibrates on
    _, spec = loaded
    last, choice = spec.linears[-1], Choice(2, "gptq")
    choices = {linear.name: FULL for linear in spec.linears} | {last.name: choice}
    wanted = Assignment(recipe_of("gptq"), choices)
    found = in_sequence(tmp_path, wanted, apart(loaded))
    assert set(found.keys) == {last.name}
    recipe = recipe_of("gptq", widths=(2, 16))
    build(tmp_path, recipe, apart(loaded))
    bank = Bank(tmp_path / recipe.digest, recipe, spec)
    assert found.cell_sum(last, choice) == bank.cell_sum(last, choice)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bits", [2, 3])
def test_codes_are_at_most_as_many_as_the_width_allows(
    loaded: Loaded, tmp_path: Path, method: str, bits: int
) -> None:
    _, spec = loaded
    wanted = assigned(spec, Choice(bits, method))
    found = in_sequence(tmp_path, wanted, apart(loaded))
    for linear in spec.linears:
        cell = read_cell(file_of(found.folder, linear.name), found.keys[linear.name])
        assert cell.bits == bits
        for group in cell.codes.split(cell.columns, dim=1):
            assert all(len(row.unique()) <= 2**bits for row in group)


def test_scales_of_awq_are_in_what_comes_before(loaded: Loaded, tmp_path: Path) -> None:
    model, spec = loaded
    choice = Choice(3, "awq")
    found = in_sequence(tmp_path, assigned(spec, choice), apart(loaded))
    assert all(found.cell(x, choice).channel_scale is None for x in spec.linears)
    changed = found.changed()
    folds = {s.fold for stage in model.stages() for s in stage.siblings}
    assert changed
    for name, value in changed.items():
        assert name.rpartition(".")[0] in folds
        assert value.dtype == torch.float16
        own = model.module.get_parameter(name)
        # all biases of the tiny model are zeros
        assert torch.equal(value, own) == name.endswith(".bias")


def test_the_model_it_reads_is_as_it_was(loaded: Loaded, tmp_path: Path) -> None:
    own = apart(loaded)
    before = {n: (p.data_ptr(), p.clone()) for n, p in own[0].module.named_parameters()}
    in_sequence(tmp_path, assigned(own[1], Choice(2, "gptq")), own)
    for name, parameter in own[0].module.named_parameters():
        assert parameter.data_ptr() == before[name][0]
        assert torch.equal(parameter, before[name][1])


def test_progress_counts_the_linears_up(loaded: Loaded, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    wanted = assigned(loaded[1], Choice(3, "uniform"), FULL)
    in_sequence(
        tmp_path,
        wanted,
        apart(loaded),
        progress=lambda done, total: told.append((done, total)),
    )
    low = len(wanted.keys)
    assert told[0] == (0, low)
    assert told[-1] == (low, low)
    assert told == sorted(told)


def test_all_at_sixteen_bits_needs_no_model(loaded: Loaded, tmp_path: Path) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("loaded")

    wanted = assigned(loaded[1], FULL)
    found = quantize_in_sequence(
        tmp_path, wanted, loaded[1].linears, Source(refuse, refuse)
    )
    assert not found.keys
    with pytest.raises(BankError, match="was finalized at 16, not at 2/gptq"):
        found.weight(loaded[1].linears[0], Choice(2, "gptq"))


def test_a_disk_with_too_little_room_is_refused_before_it_starts(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(BankError, match="let XDG_DATA_HOME name a larger disk"):
        in_sequence(tmp_path, assigned(loaded[1], Choice(2, "gptq")), apart(loaded))


def test_activations_that_are_not_finite_are_refused_by_name(
    loaded: Loaded, tmp_path: Path
) -> None:
    state = prompts()
    state["pixel_values"][0, 0, 0, 0] = float("inf")
    wanted = assigned(loaded[1], Choice(2, "gptq"))
    with pytest.raises(ModelError, match=r"layers\.0\.self_attn\.q_proj.*activations"):
        in_sequence(tmp_path, wanted, apart(loaded), state)
    assert not (tmp_path / wanted.digest / MANIFEST).exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_makes_nearly_what_a_cpu_makes(tmp_path: Path) -> None:
    state = made(FAMILY, tmp_path / "model")
    spec = FAMILY.spec(tmp_path / "model")
    wanted, found = assigned(spec, Choice(8, "gptq"), FULL), {}
    for device in ("cpu", "cuda"):
        model = FAMILY.load(tmp_path / "model", device, mapped=True)
        here = {key: value.to(device) for key, value in state.items()}
        source = Source(lambda own=model: own, lambda _, own=here: [own], device)
        root = tmp_path / device
        found[device] = quantize_in_sequence(root, wanted, spec.linears, source)
    for linear in spec.linears:
        if linear.name in wanted.keys:
            choice = wanted.choices[linear.name]
            both = [found[device].weight(linear, choice) for device in found]
            assert torch.allclose(*both, atol=0.05 * float(both[0].abs().max()))


def test_head_and_embeddings_are_quantized_where_they_are_in_groups(
    tmp_path: Path,
) -> None:
    state = made(FAMILY, tmp_path / "model")
    spec = FAMILY.spec(tmp_path / "model", include=("head", "embeddings"))
    wanted = assigned(spec, Choice(3, "gptq"))
    model = FAMILY.load(tmp_path / "model", "cpu", mapped=True)
    found = in_sequence(tmp_path, wanted, (model, spec), state)
    assert {"lm_head", "model.language_model.embed_tokens"} <= set(found.keys)
