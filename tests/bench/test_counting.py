"""What passes through a loaded model is counted."""

from __future__ import annotations

import torch

from allocator.bench.counting import count_tokens
from allocator.core.cost import Cost
from allocator.core.spec import Linear


def test_rows_through_the_first_linear_of_each_component_are_counted() -> None:
    module = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3)))
    parts = ("vision", "vision", "language")
    linears = [
        Linear(str(at), part, 0, "ff", 4, 4)  # type: ignore[arg-type]
        for at, part in enumerate(parts)
    ]
    cost = Cost()
    count_tokens(module, linears, cost)
    module(torch.zeros(2, 5, 4))
    module[1](torch.zeros(7, 4))
    assert cost.tokens == {"vision": 10, "language": 10}
