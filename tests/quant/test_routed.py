from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from allocator.core.errors import ModelError
from allocator.core.ports import Siblings, Stage
from allocator.families._any_resolution import prompts
from quant.calibration import listening
from quant.routed import Experts, Routed, experts_of, routing
from tests.quant.mixtures import (
    BLOCK,
    CHOSEN,
    EXPERTS,
    STACKS,
    Mixture,
    before,
    by_hand,
    mixture,
    noting,
)

if TYPE_CHECKING:
    from allocator.core.ports import State


@pytest.fixture(scope="module")
def model() -> Mixture:
    return mixture()


@pytest.fixture(scope="module")
def block(model: Mixture) -> tuple[Stage, State]:
    return before(model, BLOCK, prompts())


def sorted_rows(rows: torch.Tensor) -> torch.Tensor:
    """The same rows in an order of their own."""
    return rows[rows[:, 0].argsort()]


def heard(model: Mixture, stage: Stage, state: State) -> tuple[State, dict[str, Any]]:
    """The state behind a stage, and what its experts read on the way."""
    found: dict[str, list[torch.Tensor]] = {}
    takers = [
        (siblings, noting(found, siblings.names[0]))
        for siblings in stage.siblings
        if siblings.pool
    ]
    with torch.no_grad(), listening(model.module, stage, takers, state):
        behind = stage.run(state)
    return behind, {name: torch.cat(rows) for name, rows in found.items()}


def test_each_expert_is_given_the_tokens_that_are_routed_to_it(
    model: Mixture, block: tuple[Stage, State]
) -> None:
    stage, state = block
    expected, (_, found) = by_hand(model, stage, state), heard(model, stage, state)
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        assert torch.allclose(sorted_rows(found[name]), sorted_rows(rows), atol=1e-5)
    # 15 real tokens with two experts each, in each stack
    real = int(prompts()["attention_mask"].sum())
    for stack in STACKS:
        counts = [len(rows) for name, rows in found.items() if stack in name]
        assert sum(counts) == CHOSEN * real


@pytest.mark.parametrize("kind", ["eager", "grouped_mm", "batched_mm"])
def test_a_stage_that_is_watched_gives_what_it_gave(
    model: Mixture, block: tuple[Stage, State], kind: str
) -> None:
    stage, state = block
    model.module.set_experts_implementation(kind)
    with torch.no_grad():
        plain = stage.run(state)["hidden"]
    behind, found = heard(model, stage, state)
    assert torch.equal(behind["hidden"], plain)
    assert len(found) > 2


def test_one_expert_alone_reads_its_tokens_in_order(
    model: Mixture, block: tuple[Stage, State]
) -> None:
    stage, state = block
    calls: list[Routed] = []
    [experts] = experts_of(model.module, stage.siblings)
    with torch.no_grad(), routing(stage, {experts: calls.append}, state):
        stage.run(state)
        for name, rows in by_hand(model, stage, state).items():
            stack, _, number = name.rpartition(".")
            found = experts.read(calls[0], stack, int(number))
            assert torch.allclose(found, rows, atol=1e-5)
    # one that nothing is routed to
    nothing = calls[0].to(EXPERTS)
    assert experts.read(nothing, f"{BLOCK}.{STACKS[1]}", 0).shape == (0, 32)


class Block(nn.Module):
    """Four experts of square matrices: how they multiply is up to who makes them."""

    def __init__(self, run: Any, **marks: Any) -> None:
        super().__init__()
        self.stack = nn.Parameter(torch.randn(4, 5, 5))
        self.run = run
        for name, value in marks.items():
            setattr(self, name, value)

    def forward(self, hidden: Any, experts: Any, shares: Any) -> Any:
        given = torch.zeros_like(hidden)
        for number in range(4):
            token, place = torch.where(experts == number)
            if len(token):
                own = self.run(hidden[token], self.stack[number])
                own = own * shares[token, place, None]
                given = given.index_add(0, token, own)
        return given


def called(run: Any, **marks: Any) -> tuple[Experts, Routed]:
    module = nn.Module()
    module.experts = Block(run, **marks)
    torch.manual_seed(1)
    index = torch.tensor([[0, 2], [2, 4], [4, 4]])
    routed = Routed(torch.randn(3, 5), index, torch.ones(3, 2))
    return Experts(module, "experts", ("experts.stack",)), routed


@pytest.mark.parametrize(
    ("run", "transposed"),
    [(nn.functional.linear, False), (torch.matmul, True), (lambda x, w: x @ w, True)],
)
def test_products_are_seen_however_they_are_written(run: Any, transposed: bool) -> None:
    experts, routed = called(run, is_transposed=transposed)
    found: dict[str, Any] = {}

    def see(name: str, x: Any, run: Any) -> Any:
        found[name] = x
        return run()

    experts.run(routed, see)
    # the last token has no expert at all, and numbers beyond the last stand for none
    assert found.keys() == {"experts.stack.0", "experts.stack.2"}
    assert torch.equal(found["experts.stack.0"], routed.hidden[:1])
    assert torch.equal(found["experts.stack.2"], routed.hidden[:2])


@pytest.mark.parametrize(
    ("run", "transposed", "said"),
    [
        (torch.matmul, False, "the other way round"),
        (nn.functional.linear, True, "the other way round"),
        (partial(torch.einsum, "ni,oi->no"), False, "is to be seen in the code"),
    ],
)
def test_experts_that_multiply_otherwise_are_refused(
    run: Any, transposed: bool, said: str
) -> None:
    experts, routed = called(run, is_transposed=transposed)
    with pytest.raises(ModelError, match=said):
        experts.run(routed, lambda *told: told[2]())


def test_calls_whose_tokens_nobody_knows_are_refused() -> None:
    experts, routed = called(nn.functional.linear)
    mask = torch.ones(2, 2)
    stage: Any = SimpleNamespace(mask="mask", siblings=(Siblings(("x",)),))
    with (
        routing(stage, {experts: lambda _: None}, {"mask": mask}),
        pytest.raises(ModelError, match="3 tokens where the batch has 4"),
    ):
        experts.owner(*routed)
    with pytest.raises(ModelError, match="is not called with tokens, their experts"):
        experts.routed((routed.hidden, None, None), {}, None)
