from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.bench.probes import few_damages
from allocator.bench.sensitivity import Sensitivity, sensitivity
from allocator.core.allocation import FULL, Choice
from allocator.core.ports import Siblings, Stage
from allocator.core.spec import Group, Linear, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

LOW, HIGH, WHOLE = Choice(2, "uniform"), Choice(4, "uniform"), Choice(FULL)
CHOICES = (LOW, HIGH, WHOLE)
# inputs of the only token of each of so many equal samples
COUNT, READ = 4000, (3.0, 4.0)
HEAD = Linear("head", "language", None, "all", 2, 2)
UNREAD = Linear("unread", "language", None, "all", 2, 2)


@dataclass
class Bench:
    """A head of two tokens, equally probable, beside a linear that nobody reads."""

    moved: Mapping[tuple[str, Choice], float]
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        self.module = torch.nn.ModuleDict(
            {x.name: torch.nn.Linear(2, 2, bias=False) for x in (HEAD, UNREAD)}
        ).requires_grad_(False)
        for name in (HEAD.name, UNREAD.name):
            self.module.get_submodule(name).weight.copy_(torch.tensor([[1.0, 1.0]] * 2))
        self.spec = ModelSpec("toy", 8, self.groups, ())
        self.model, self.bank = self, self

    def restore(self) -> None:
        """It never has other weights."""

    def stages(self) -> tuple[Stage, ...]:
        def run(state: Any) -> Any:
            read = state["hidden"]
            self.module.get_submodule("unread")(read)
            return {**state, "logits": self.module.get_submodule("head")(read)}

        read = (Siblings(("head", "unread")),)
        return (Stage("only", "language", run, ("head", "unread"), read, "mask"),)

    def batches(self, samples: Any) -> Any:
        return [samples]

    def prompted(self, samples: Any) -> tuple[Any, None]:
        # padding in front of each, which counts for nothing
        hidden = torch.tensor([[50.0, 50.0], READ]).expand(len(samples), 2, 2)
        mask = torch.tensor([0, 1]).expand(len(samples), 2)
        return {"hidden": hidden, "mask": mask}, None

    def put(self, linear: Linear, choice: Choice, out: Tensor) -> int:
        """Only the first token's weight of the first input is moved."""
        out.fill_(1.0)[0, 0] += self.moved[linear.name, choice]
        return 0


MOVED = {
    ("head", LOW): 0.1,
    ("head", HIGH): 0.02,
    ("unread", LOW): 0.7,
    ("unread", HIGH): 0.1,
}


def alone() -> Bench:
    return Bench(MOVED, (Group("a", (HEAD,)), Group("b", (UNREAD,))))


def found(bench: Any) -> Sensitivity:
    return sensitivity(bench, [None] * COUNT, CHOICES)


def test_fisher_weighted_error_is_the_second_order_of_the_kl() -> None:
    table = found(alone()).fisher
    # a logit moves by 0.1 x 3, and KL is p (1 - p) / 2 of its square: 0.25 / 2 x 0.09.
    # The mean of 4,000 squares of a normal variable is off by 2.2 %, four times is much
    assert table["a", LOW] == pytest.approx(0.01125, rel=0.09)
    # of the same draws, so that the ratio is that of the squares
    assert table["a", LOW] / table["a", HIGH] == pytest.approx(25, rel=1e-3)
    assert table["a", WHOLE] == 0


def test_what_nothing_reads_costs_nothing_but_has_an_error_of_its_own() -> None:
    tables = found(alone())
    assert tables.fisher["b", LOW] == 0
    # the padding left out: (0.7 x 3)^2 of 7^2 + 7^2
    assert tables.relative_error["b", LOW] == pytest.approx(4.41 / 98, rel=1e-5)


def test_a_group_has_the_sum_of_its_linears() -> None:
    tables = found(Bench(MOVED, (Group("all", (HEAD, UNREAD)),)))
    assert tables.relative_error["all", LOW] == pytest.approx(4.5 / 98, rel=1e-5)
    assert tables.fisher["all", LOW] == pytest.approx(0.01125, rel=0.09)


def test_weights_that_overflow_are_worse_than_all_others() -> None:
    bench = alone()
    bench.moved = {**MOVED, ("head", LOW): math.inf}
    tables = found(bench)
    for table in (tables.fisher, tables.relative_error):
        assert all(map(math.isfinite, table.values()))
        assert table["a", LOW] > sum(v for at, v in table.items() if at != ("a", LOW))


def test_equal_seeds_give_equal_tables_and_others_others() -> None:
    first, again = found(alone()), found(alone())
    other = sensitivity(alone(), [None] * COUNT, CHOICES, seed=1)  # type: ignore[arg-type, list-item]
    assert first == again
    assert first.fisher["a", LOW] != other.fisher["a", LOW]
    assert first.relative_error == other.relative_error


class Probed:
    """Logits of two tokens, moved apart by what a table says; counts what it runs."""

    def __init__(self, moved: Mapping[tuple[str, Choice], float]) -> None:
        self.spec = SimpleNamespace(keys=("a",))
        self.moved, self.ran = moved, list[Choice]()

    @property
    def depths(self) -> dict[str, int]:
        return {key: at for at, key in enumerate(self.spec.keys)}

    def logits(self, allocation: Any, samples: Any, ahead: Any) -> Tensor:
        del samples, ahead
        choice = dict(allocation.choices)["a"]
        if choice.bits < FULL:
            self.ran.append(choice)
        gap = self.moved.get(("a", choice), 0.0)
        return torch.tensor([[[gap, 0.0]]]).log_softmax(-1)


def test_three_widths_are_probed_by_the_best_method_and_the_rest_follows() -> None:
    widths, methods = (2, 3, 4, 8), ("gptq", "uniform")
    choices = (*(Choice(b, m) for b in widths for m in methods), WHOLE)
    errors = {("a", c): 1.0 / c.bits for c in choices} | {("a", WHOLE): 0.0}
    # rounding is the better one at 3 bits alone
    errors |= {("a", Choice(b, "uniform")): 2.0 for b in (2, 4, 8)}
    errors["a", Choice(3, "uniform")] = 0.1
    fisher = {("a", c): 4.0 * c.bits for c in choices} | {("a", WHOLE): 0.0}
    fisher["a", Choice(8, "gptq")] = 1.0
    bench = Probed({("a", c): 1 / c.bits for c in choices if c.bits < FULL})
    found: dict[tuple[str, Choice], float] = {}
    table = few_damages(
        bench,  # type: ignore[arg-type]
        (),
        choices,
        Sensitivity(fisher, errors),
        found=found,
    )
    probed = [Choice(2, "gptq"), Choice(3, "uniform"), Choice(4, "gptq")]
    assert bench.ran == probed
    assert set(table) == {("a", choice) for choice in choices}
    assert all(table["a", choice] == found["a", choice] > 0 for choice in probed)
    assert table["a", Choice(4, "uniform")] == table["a", Choice(4, "gptq")]
    # 1 to 16 of the Fisher-weighted errors
    assert table["a", Choice(8, "gptq")] == table["a", Choice(4, "gptq")] / 16
    assert table["a", WHOLE] == 0
    bench.ran.clear()
    again = few_damages(
        bench,  # type: ignore[arg-type]
        (),
        choices,
        Sensitivity(fisher, errors),
        found=found,
    )
    assert again == table
    assert not bench.ran
