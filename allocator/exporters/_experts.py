"""Experts that a format has no place for, refused before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from allocator.exporters._checkpoint import Checkpoint


def check_experts(made: Checkpoint, fmt: str, because: str) -> None:
    """Refuse experts below 16 bits.

    Raises:
        SpecError: says how many there are, why they cannot be held, and what would do.
    """
    experts = [x for x in made.spec.linears if x.is_expert and x.name in made.low]
    if experts:
        groups = [
            g.key for g in made.spec.groups if any(x in experts for x in g.linears)
        ]
        raise SpecError(
            f"{fmt} cannot hold experts below 16 bits, and {len(experts):,} of "
            f"{', '.join(groups)} are, {experts[0].name} among them: {because}; export "
            "--format plan, which allocator.load puts in place"
        )
