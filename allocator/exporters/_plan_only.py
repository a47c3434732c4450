"""What formats share that hold a plan, and no weights that a runtime loads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.exporting import NO_OPTIONS, installed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.exporters._export import Export


class PlanOnly:
    """All of `allocator.core.exporting.Exporter` but `write` and `usage`."""

    options = NO_OPTIONS

    def loader(self) -> str | None:
        """This program reads it."""
        return installed("allocate-vlm")

    def layout(self, export: Export) -> None:
        """None: no sizes count."""
        del export

    def check(self, export: Export) -> None:
        """Any plan can be written."""

    def stored(self, out: Path) -> None:
        """None: there are no tensors."""
        del out

    def reopen(self, export: Export, out: Path) -> None:
        """None: there is nothing to compare."""
        del export, out
