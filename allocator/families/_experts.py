"""Blocks with experts, as several language models have them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from allocator.families._blocks import Readers, siblings_of
from allocator.families._places import Rest

if TYPE_CHECKING:
    from collections.abc import Sequence

# the norm in front of them feeds the router too: no scale folds. What the down
# projection of an expert reads was made by half of the linear in front
ROUTED = (
    Readers("mlp.experts.gate_up_proj", "ff", experts=True),
    Readers("mlp.experts.down_proj", "ff", experts=True),
)
# four experts, of which every token goes to two
TINY_EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 96,
}


def shared(name: str) -> tuple[Readers, ...]:
    """Readers of an expert that every token goes through."""
    return (
        Readers(f"mlp.{name}.gate_proj mlp.{name}.up_proj", "ff"),
        Readers(f"mlp.{name}.down_proj", "ff", f"mlp.{name}.up_proj"),
    )


def router(blocks: str, *more: str) -> Rest:
    """What stays at 16 bit in blocks with experts.

    Args:
        blocks: the full name of their list.
        more: names of further gates in a block.
    """
    names = "|".join(map(re.escape, ("mlp.gate", *more)))
    return Rest(
        rf"{re.escape(blocks)}\.\d+\.({names})",
        "a row an expert, which decides where tokens go and how much that counts",
    )


def found(module: Any, blocks: str, readers: Sequence[Readers]) -> tuple[Readers, ...]:
    """Those readers that some block has: not every mixture has dense blocks too."""
    row = module.get_submodule(blocks)
    return tuple(r for r in readers if any(siblings_of(block, r) for block in row))
