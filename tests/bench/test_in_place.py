"""What is exchanged is what differs, and is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.bench.in_place import InPlace
from allocator.core.allocation import Choice
from allocator.core.errors import BankError
from allocator.core.spec import Linear

if TYPE_CHECKING:
    from collections.abc import Iterator

FULL, LOW, LOWER = Choice(16), Choice(4, "gptq"), Choice(2, "gptq")


class Constant:
    """Cells whose weights all equal their width."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.broken = ""

    def put(self, linear: Linear, choice: Choice, out: torch.Tensor) -> int:
        if linear.name == self.broken:
            out[0] = 99.0
            raise BankError("gone")
        self.asked.append((linear.name, choice.bits))
        out.fill_(choice.bits)
        return choice.bits

    def cell_sum(self, *_: Any) -> str:
        return ""

    def rest(self, *_: Any) -> Iterator[tuple[str, torch.Tensor]]:
        return iter(())


@pytest.fixture
def module() -> Any:
    made = torch.nn.Sequential(*(torch.nn.Linear(4, 3) for _ in range(3)))
    return made.requires_grad_(False)


def of(module: Any) -> InPlace:
    linears = [Linear(str(n), "language", 0, "ff", 3, 4) for n in range(len(module))]
    return InPlace(module, linears)


def wanted(*choices: Choice) -> dict[str, Choice]:
    return {str(number): choice for number, choice in enumerate(choices)}


def test_only_what_differs_is_read_and_counted(module: Any) -> None:
    in_place, cells = of(module), Constant()
    in_place.put(wanted(LOW, LOW, FULL), cells)
    in_place.put(wanted(LOW, LOWER, FULL), cells)
    # nothing differs
    in_place.put(wanted(LOW, LOWER, FULL), cells)
    assert cells.asked == [("0", 4), ("1", 4), ("1", 2)]
    assert [float(each.weight[0, 0]) for each in module[:2]] == [4.0, 2.0]
    # three exchanges of 3 x 4 weights, from "bytes" as many as bits
    cost = in_place.cost
    assert (cost.swaps, cost.weights_swapped, cost.bytes_read) == (2, 36, 10)


def test_full_precision_is_put_back_for_single_linears_and_for_all(module: Any) -> None:
    before = [each.weight.clone() for each in module]
    in_place, cells = of(module), Constant()
    in_place.put(wanted(LOW, LOW, LOW), cells)
    in_place.put(wanted(LOW, FULL, LOW), cells)
    assert torch.equal(module[1].weight, before[1])
    assert not torch.equal(module[2].weight, before[2])
    in_place.restore()
    assert all(map(torch.equal, (each.weight for each in module), before))
    # three, then one, then the other two
    assert (in_place.cost.swaps, in_place.cost.weights_swapped) == (3, 12 * 6)
    in_place.restore()
    assert in_place.cost.swaps == 3


def test_what_fails_halfway_leaves_full_precision(module: Any) -> None:
    before = [each.weight.clone() for each in module]
    in_place, cells = of(module), Constant()
    cells.broken = "2"
    with pytest.raises(BankError, match="gone"):
        in_place.put(wanted(LOW, FULL, LOW), cells)
    assert all(map(torch.equal, (each.weight for each in module), before))
    assert set(in_place.current.values()) == {FULL}
