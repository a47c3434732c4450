"""The plan file: what `allocate evaluate --plan` reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from allocator.core.errors import BankError
from allocator.core.plan import FINALIZED
from allocator.exporters._plan_only import PlanOnly

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allocator.core.exporting import Exporter
    from allocator.exporters._export import Export
    from quant.finalized import Finalized

USAGE = """import allocator

model, processor = allocator.load("{out}/plan.json")
"""


class PlanExporter(PlanOnly):
    """Writes `plan.json`: bits and method of every group and every linear.

    Weights that were quantized in sequence for it are written beside it, packed.
    """

    description = "bits and method of every group and linear, as JSON"

    def check(self, export: Export) -> None:
        """Refuse a plan whose finalized weights are gone.

        Raises:
            BankError: they are.
        """
        if export.weights is not None:
            _finalized(export.weights)

    def write(
        self, export: Export, out: Path, tick: Callable[[int, int], object]
    ) -> None:
        """Write the plan, and its finalized weights beside it."""
        if export.weights is not None:
            _finalized(export.weights).copy(out / FINALIZED)
        text = json.dumps(dict(export.plan), indent=1)
        (out / "plan.json").write_text(f"{text}\n")
        tick(1, 1)

    def usage(self, export: Export) -> str:
        """The model with the plan's weights in place, as transformers has it."""
        del export
        return USAGE


def _finalized(folder: Path) -> Finalized:
    # brings torch, which most plans do not need
    from quant.finalized import Finalized

    try:
        return Finalized.open(folder)
    except BankError as error:
        raise BankError(f"{error}; search again to make them") from None


PLUGIN: Exporter = PlanExporter()
