from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Choice, Scheme
from allocator.core.ports import Siblings, Stage
from quant.build import Source
from quant.grid import Cell, decode, dequantize, round_to_nearest
from quant.sequential import quantize_in_sequence
from quant.streaming import Spool
from quant.tuning import Around, Tuning, tuned
from tests.quant.banks import apart, prompts
from tests.quant.sequences import FULL, assigned, in_sequence, recipe_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import State
    from quant.finalized import Finalized
    from tests.quant.banks import Loaded

NAMES = ("first", "second")


class Block(torch.nn.Module):
    """Two linears with something between, and a third that keeps 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(32, 64)
        self.second = torch.nn.Linear(64, 32, bias=False)
        self.third = torch.nn.Linear(32, 32)

    def run(self, state: State) -> State:
        hidden = self.third(
            torch.relu(self.first(state["hidden"])) @ self.second.weight.T
        )
        return {**state, "hidden": state["hidden"] + hidden}


def block() -> tuple[Block, Stage]:
    module = Block().requires_grad_(False)
    sets = tuple(Siblings((name,)) for name in (*NAMES, "third"))
    return module, Stage("0", "language", module.run, ("",), sets, "mask")


def around(folder: Path, stage: Stage, *, judging: int = 2) -> Around:
    """Eight batches of padded samples; behind quantized predecessors they moved."""
    states, targets = Spool(folder, "cpu"), Spool(folder, "cpu")
    draw = torch.Generator().manual_seed(1)
    mix = torch.randn(32, 32, generator=draw) / 4
    for _ in range(8):
        hidden = torch.randn(4, 6, 32, generator=draw) @ mix
        mask = torch.ones(4, 6, dtype=torch.long)
        mask[0, :3] = 0
        exact = {"hidden": hidden, "mask": mask}
        targets.append(stage.run(exact))
        moved = hidden + torch.randn(4, 6, 32, generator=draw) / 50
        states.append({**exact, "hidden": moved})
    return Around(states, targets, 8 - judging)


def weight_of(module: Block, name: str) -> torch.Tensor:
    return module.get_parameter(f"{name}.weight")


def cells_of(module: Block, scheme: Scheme, *widths: int) -> dict[str, Cell]:
    return {
        name: round_to_nearest(weight_of(module, name), scheme, bits)
        for name, bits in zip(NAMES, widths, strict=True)
    }


def error(module: Block, cells: dict[str, Cell], passing: Around, which: Any) -> float:
    """Summed squares over what is no padding, written down once more."""
    before = {name: weight_of(module, name).data for name in cells}
    total = 0.0
    for name, cell in cells.items():
        weight_of(module, name).data = dequantize(cell)
    for n in which:
        state = passing.states[n]
        gap = module.run(state)["hidden"] - passing.targets[n]["hidden"]
        total += float(gap[state["mask"].bool()].square().sum())
    for name, weight in before.items():
        weight_of(module, name).data = weight
    return total


def run(
    module: Block, stage: Stage, cells: dict[str, Cell], passing: Around, how: Tuning
) -> dict[str, Cell]:
    weights = {name: weight_of(module, name) for name in cells}
    return tuned(module, stage, cells, weights, passing, how)


def same(one: dict[str, Cell], other: dict[str, Cell]) -> bool:
    return all(
        torch.equal(one[name].codes, other[name].codes)
        and torch.equal(one[name].scale, other[name].scale)
        for name in one
    )


@pytest.mark.parametrize("group", [32, "channel", "tensor"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("widths", [(2, 2), (3, 2)])
def test_what_is_held_out_fits_better_in_the_same_layout(
    tmp_path: Path, group: Any, symmetric: bool, widths: tuple[int, int]
) -> None:
    module, stage = block()
    passing = around(tmp_path, stage)
    cells = cells_of(module, Scheme(group, symmetric), *widths)
    found = run(module, stage, cells, passing, Tuning(40))
    for which in (passing.held, passing.seen):
        assert error(module, found, passing, which) < 0.95 * error(
            module, cells, passing, which
        )
    for name, bits in zip(NAMES, widths, strict=True):
        now, then = found[name], cells[name]
        assert (
            (now.bits, now.columns) == (then.bits, then.columns) == (bits, now.columns)
        )
        assert now.codes.dtype == torch.uint8
        assert int(now.codes.max()) <= 2**bits - 1
        assert (now.scale.dtype, now.scale.shape) == (
            then.scale.dtype,
            then.scale.shape,
        )
        assert (now.zero is None) == (then.zero is None)


def test_nothing_else_is_touched_and_gradients_are_off_behind_it(
    tmp_path: Path,
) -> None:
    module, stage = block()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    passing = around(tmp_path, stage)
    run(module, stage, cells_of(module, Scheme(32), 2, 2), passing, Tuning(8))
    assert all(torch.equal(before[n], v) for n, v in module.state_dict().items())
    assert not any(each.requires_grad for each in module.parameters())


def test_without_steps_or_judges_nothing_changes(tmp_path: Path) -> None:
    module, stage = block()
    cells, passing = cells_of(module, Scheme(32), 2, 2), around(tmp_path, stage)
    assert same(run(module, stage, cells, passing, Tuning(0)), cells)
    alone = replace(around(tmp_path, stage, judging=0), calibrated=3)
    alone = replace(
        alone, states=_first(alone.states, 3), targets=_first(alone.targets, 3)
    )
    assert (alone.seen, alone.held) == ([0, 1, 2], [])
    assert same(run(module, stage, cells, alone, Tuning(8)), cells)


def _first(spool: Spool, count: int) -> Spool:
    own = Spool(spool.folder, spool.device)
    for n in range(count):
        own.append(spool[n])
    return own


def test_one_batch_in_four_judges_where_none_is_there_for_it(tmp_path: Path) -> None:
    _, stage = block()
    passing = around(tmp_path, stage, judging=0)
    assert (passing.held, passing.seen) == ([3, 7], [0, 1, 2, 4, 5, 6])


def test_what_fits_worse_on_held_out_samples_is_not_kept(tmp_path: Path) -> None:
    module, stage = block()
    passing = around(tmp_path, stage)
    cells = cells_of(module, Scheme(32), 3, 3)
    # judges whose targets are what the cells give already
    for name, cell in cells.items():
        weight_of(module, name).data = decode(cell.codes, cell)
    for n in passing.held:
        passing.targets[n] = stage.run(passing.states[n])
    assert same(run(Block(), stage, cells, passing, Tuning(8)), cells)


def test_equal_seeds_give_equal_cells(tmp_path: Path) -> None:
    module, stage = block()
    cells, passing = cells_of(module, Scheme(32), 2, 2), around(tmp_path, stage)
    first, again, other = (
        run(module, stage, cells, passing, Tuning(20, seed)) for seed in (0, 0, 1)
    )
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("batches", [1, 4])
def test_each_batch_is_seen_as_often_as_any(batches: int) -> None:
    seen = [n for row in Tuning(12, batches=batches).order([0, 1, 2, 5]) for n in row]
    assert len(seen) == 12 * batches
    assert {seen.count(n) for n in (0, 1, 2, 5)} == {3 * batches}


def sequence(
    folder: Path, wanted: Any, loaded: Loaded, states: int = 4, judging: int = 1
) -> Finalized:
    model, spec = loaded
    source = Source(
        lambda: model, lambda _: [prompts() for _ in range(states)], judging=judging
    )
    return quantize_in_sequence(folder, wanted, spec.linears, source)


def test_a_mixture_of_methods_is_tuned_and_sixteen_bits_are_left(
    loaded: Loaded, tmp_path: Path
) -> None:
    kinds = [Choice(2, "gptq"), FULL, Choice(3, "awq"), Choice(2, "uniform")]
    plain = assigned(loaded[1], *kinds)
    wanted = replace(plain, tune=Tuning(6))
    model, spec = apart(loaded)
    found = sequence(tmp_path / "tuned", wanted, (model, spec))
    other = sequence(tmp_path / "plain", plain, apart(loaded))
    assert found.keys == other.keys
    assert found.sums != other.sums
    assert found.digest != other.digest
    for name, parameter in model.module.named_parameters():
        assert torch.equal(parameter, loaded[0].module.get_parameter(name)), name
    for linear in spec.linears:
        if linear.name in found.keys:
            cells = [x.cell(linear, x.choices[linear.name]) for x in (found, other)]
            assert cells[0].scale.dtype == cells[1].scale.dtype
            assert cells[0].scale.shape == cells[1].scale.shape
            assert cells[0].channel_scale is None


def test_untuned_weights_keep_their_names_and_no_steps_their_cells(
    loaded: Loaded, tmp_path: Path
) -> None:
    plain = assigned(loaded[1], Choice(2, "gptq"))
    none = replace(plain, tune=Tuning(0))
    assert len(plain.settings) == 3
    assert none.digest != plain.digest
    first = sequence(tmp_path, plain, apart(loaded))
    assert sequence(tmp_path, none, apart(loaded)).sums == first.sums


def test_judges_are_not_calibrated_on(loaded: Loaded, tmp_path: Path) -> None:
    wanted = assigned(loaded[1], Choice(2, "gptq"))
    one = sequence(tmp_path / "judged", wanted, apart(loaded), 2, judging=1)
    assert one.sums == in_sequence(tmp_path / "alone", wanted, apart(loaded)).sums
    assert recipe_of().digest == wanted.recipe.digest
