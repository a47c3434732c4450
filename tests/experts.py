"""Blocks with experts, small: as transformers keeps them, weights given out by hand."""

from __future__ import annotations

from typing import Any

import torch

from allocator.core.spec import Linear

COUNT, OUT, IN = 3, 4, 6
UP, DOWN = "experts.gate_up_proj", "experts.down_proj"


class Experts(torch.nn.Module):
    """Parameters [experts, out, in], or [experts, in, out] where `is_transposed`."""

    def __init__(self, *, is_transposed: bool = False) -> None:
        super().__init__()
        self.is_transposed = is_transposed
        for name, out, size in (("gate_up_proj", OUT, IN), ("down_proj", IN, OUT // 2)):
            shape = (size, out) if is_transposed else (out, size)
            self.register_parameter(
                name, torch.nn.Parameter(torch.randn(COUNT, *shape))
            )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states


class Block(torch.nn.Module):
    """A linear and experts."""

    def __init__(self, *, is_transposed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.o_proj = torch.nn.Linear(IN, IN)
        self.experts = Experts(is_transposed=is_transposed)
        self.requires_grad_(False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.experts(self.o_proj(hidden))  # type: ignore[no-any-return]


def linears(*, component: Any = "language") -> list[Linear]:
    """The linears of a block, each expert one of its own."""
    up = [Linear(f"{UP}.{n}", component, 0, "ff", OUT, IN) for n in range(COUNT)]
    down = [
        Linear(f"{DOWN}.{n}", component, 0, "ff", IN, OUT // 2) for n in range(COUNT)
    ]
    return [Linear("o_proj", component, 0, "attn", IN, IN), *up, *down]
