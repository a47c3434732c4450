"""Experts on the bench: each is a linear of its own, and a slice of a parameter."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.bench import originals
from allocator.bench.counting import count_tokens
from allocator.bench.cuts import Cuts
from allocator.bench.in_place import InPlace
from allocator.core.allocation import Choice
from allocator.core.cost import Cost
from allocator.core.plugins import load
from allocator.core.weights import slice_of
from quant.folding import settled
from tests.experts import DOWN, IN, OUT, UP, Block, linears

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from allocator.core.spec import Linear

FULL, LOW, LOWER = Choice(16), Choice(4, "gptq"), Choice(2, "gptq")


class Rounded:
    """Cells whose weights all equal their width; all else is rounded to fp16."""

    def put(self, linear: Linear, choice: Choice, out: torch.Tensor) -> int:
        assert tuple(out.shape) == (linear.out_features, linear.in_features)
        out.fill_(choice.bits)
        return choice.bits

    def cell_sum(self, *_: Any) -> str:
        return ""

    def rest(
        self, _: Any, parameters: Iterable[tuple[str, torch.Tensor]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        return settled(parameters, {}, torch.float16)


class Alone(Rounded):
    """The same, and nothing else changes."""

    def rest(self, *_: Any) -> Iterator[tuple[str, torch.Tensor]]:
        return iter(())


def wanted(**low: Choice) -> dict[str, Choice]:
    """Choices of all linears: full precision, but for the experts that are named."""
    parts = {"up": UP, "down": DOWN}
    chosen = {f"{parts[k[:-1]]}.{k[-1]}": choice for k, choice in low.items()}
    return {x.name: chosen.get(x.name, FULL) for x in linears()}


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("copied", [0, 2**30])
def test_experts_of_one_stack_have_choices_of_their_own_and_come_back_bit_by_bit(
    monkeypatch: pytest.MonkeyPatch, copied: int, *, is_transposed: bool
) -> None:
    """Whether they are copied, or read again from a mapped checkpoint."""
    monkeypatch.setattr(originals, "COPIED_BYTES", copied)
    module: Any = Block(is_transposed=is_transposed)
    stored = deepcopy(module)
    in_place = InPlace(module, linears(), mapped=lambda: stored)
    stack = module.experts.gate_up_proj
    in_place.put(wanted(up0=LOW, up2=LOWER), Rounded())
    assert bool((stack[0] == 4).all())
    assert bool((stack[2] == 2).all())
    # what has no cell is what a checkpoint stores, experts of the same stack too
    exact = stored.experts.gate_up_proj
    assert torch.equal(stack[1], exact[1].half().float())
    assert not torch.equal(stack[1], exact[1])
    down = module.experts.down_proj
    assert torch.equal(down, stored.experts.down_proj.half().float())
    in_place.put(wanted(up2=LOWER, down1=LOW), Rounded())
    assert torch.equal(stack[0], exact[0].half().float())
    assert bool((down[1] == 4).all())
    in_place.restore()
    for name, value in module.state_dict().items():
        assert torch.equal(value, stored.state_dict()[name]), name


def test_an_expert_of_a_checkpoint_comes_back_from_its_mapped_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(originals, "COPIED_BYTES", 0)
    family = load("allocator.families", "qwen_vl")
    family.tiny(tmp_path, "3-moe")
    module, spec = family.load(tmp_path, "cpu").module, family.spec(tmp_path)
    before = deepcopy(module.state_dict())

    def mapped() -> Any:
        return family.load(tmp_path, "cpu", mapped=True).module

    in_place = InPlace(module, spec.linears, mapped=mapped)
    one = next(linear.name for linear in spec.linears if linear.is_expert)
    chosen = {x.name: LOW if x.name == one else FULL for x in spec.linears}
    in_place.put(chosen, Alone())
    moved = {n for n, x in module.state_dict().items() if not torch.equal(x, before[n])}
    own = slice_of(module, one)
    assert own is not None
    assert moved == {own.stack}
    in_place.put(dict.fromkeys(chosen, FULL), None)
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_exchange_counts_the_weights_of_the_experts_that_change() -> None:
    cost = Cost()
    in_place = InPlace(Block(), linears(), cost)
    in_place.put(wanted(up0=LOW, up1=LOW), Alone())
    in_place.put(wanted(up0=LOW, up1=LOWER), Alone())
    assert cost.weights_swapped == 3 * OUT * IN


def test_rows_that_experts_read_are_counted_where_they_come_first() -> None:
    module, cost = Block(), Cost()
    count_tokens(module, linears(component="vision")[1:], cost)
    module(torch.zeros(7, IN))
    assert cost.tokens == {"vision": 7}


def test_experts_are_first_read_where_their_block_runs(tmp_path: Path) -> None:
    family = load("allocator.families", "qwen_vl")
    family.tiny(tmp_path, "3-moe")
    model, spec = family.load(tmp_path, "cpu"), family.spec(tmp_path)
    cuts = Cuts.of(model, spec.by_linear())
    experts = [linear for linear in spec.linears if linear.is_expert]
    [place] = [at for at, own in enumerate(cuts.first_read) if experts[0] in own]
    assert set(experts) <= set(cuts.first_read[place])
    assert cuts.stages[place].name == "model.language_model.layers.1"
    before = [x for own in cuts.first_read[:place] for x in own]
    assert cuts.depths(spec)["language.all.attn"] < len(before)
    # the dense block's feed-forward linears come before
    assert cuts.depths(spec)["language.all.ff"] < len(before)
    fine = cuts.depths(spec.by_linear())
    assert all(fine[f"language.{x.name}"] >= len(before) for x in experts)
