"""Plans written by their exporter, as `allocate export --format plan` does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.core.watch import Silent
from allocator.exporters import exporter_of
from allocator.exporters._driver import write_export
from allocator.exporters._export import Export

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.exporters._checkpoint import Checkpoint


def unasked() -> Checkpoint:
    """In place of a checkpoint that a plan does not need."""
    raise AssertionError("a plan alone needs no checkpoint")


def write_plan(plan: Mapping[str, Any], weights: Path | None, out: Path) -> Path:
    """The file that is written."""
    export = Export(plan, unasked, weights=weights)
    exporter = exporter_of("plan")
    found = write_export(export, exporter, out, fmt="plan", watch=Silent())
    return Path(found["path"])
