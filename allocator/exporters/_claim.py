"""What an export claims to store, held against the budget that its study kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.core.allocation import stored_size
from allocator.core.errors import SpecError
from allocator.core.targets import TARGETS

if TYPE_CHECKING:
    from allocator.core.allocation import Budget, Size
    from allocator.core.exporting import Exporter
    from allocator.core.spec import ModelSpec
    from allocator.exporters._export import Export


@dataclass(frozen=True)
class Claim:
    """Sizes of one allocation, in bytes and bits per weight.

    Attributes:
        size: as the format stores it.
        searched: as the search counted it.
        over: bytes beyond the budget, in its scope; 0 where it is kept.
        target: the `--target` whose searches count as the format does, if another.
    """

    size: Size
    searched: Size
    over: int
    target: str | None

    @property
    def more(self) -> int:
        """Bytes that the format stores more than the search counted."""
        return self.size.model_bytes - self.searched.model_bytes


def claim_of(export: Export, exporter: Exporter) -> Claim | None:
    """What a format stores of a checkpoint; None: no weights at all."""
    layout = exporter.layout(export)
    if layout is None:
        return None
    made = export.checkpoint
    searched = stored_size(made.spec, made.scheme, made.allocation)
    size = stored_size(made.spec, made.scheme, made.allocation, layout)
    over = 0 if export.limit is None else _over(export.limit, made.spec, size)
    names = (name for name, target in TARGETS.items() if target.layout == layout)
    other = next((name for name in names if name != export.target), None)
    return Claim(size, searched, over, other)


def _over(limit: Budget, spec: ModelSpec, size: Size) -> int:
    if limit.fits(spec, size):
        return 0
    return int(size.stored(limit.scope) - limit.bytes(spec)) or 1


def check_budget(claim: Claim, export: Export, fmt: str, *, force: bool) -> str | None:
    """Refuse what the budget does not hold; what to say where it stores more.

    Raises:
        SpecError: says both sizes, by how much, and with which target it had fitted.
    """
    limit, spec, size = export.limit, export.checkpoint.spec, claim.size
    hint = f"search again with --target {claim.target}, which counts so"
    if limit is not None and claim.over:
        told = (
            f"as {fmt} stores it this takes {size.stored(limit.scope):,} bytes "
            f"({size.bpw(limit.scope):.3f} bpw), {claim.over:,} more than the budget "
            f"of {limit.bpw(spec):g} bpw ({limit.bytes(spec):,.0f} bytes)"
        )
        if force:
            return told
        again = f"{hint}, or write" if claim.target else "write"
        raise SpecError(f"{told}: {again} it all the same with --force")
    if claim.more <= 0:
        return None
    told = (
        f"{fmt} stores {claim.more:,} bytes more than the search counted "
        f"({size.bpw():.3f} bpw, not {claim.searched.bpw():.3f})"
    )
    return f"{told}: {hint}" if claim.target else told
