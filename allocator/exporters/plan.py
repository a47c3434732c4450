"""The plan file: what `allocate evaluate --plan` reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from allocator.core.errors import BankError
from allocator.core.plan import FINALIZED
from allocator.core.ports import NO_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allocator.core.ports import Exporter
    from allocator.exporters._export import Export


class PlanExporter:
    """Writes `plan.json`: bits and method of every group and every linear.

    Weights that were quantized in sequence for it are written beside it, packed.
    """

    description = "bits and method of every group and linear, as JSON"
    options = NO_OPTIONS

    def layout(self, target: str) -> None:
        """None: no runtime loads it."""
        del target

    def check(self, export: Export) -> None:
        """Any plan can be written, with the finalized weights it names.

        Raises:
            BankError: the plan's finalized weights are gone.
        """
        if export.weights is None:
            return
        # brings torch, which most plans do not need
        from quant.finalized import Finalized

        try:
            Finalized.open(export.weights)
        except BankError as error:
            raise BankError(f"{error}; search again to make them") from None

    def write(
        self, export: Export, out: Path, tick: Callable[[int, int], object]
    ) -> None:
        """Write the plan, and its finalized weights beside it."""
        if export.weights is not None:
            from quant.finalized import Finalized

            Finalized.open(export.weights).copy(out / FINALIZED)
        (out / "plan.json").write_text(json.dumps(dict(export.plan), indent=1) + "\n")
        tick(1, 1)

    def stored(self, out: Path) -> None:
        """None: it has no tensors that a runtime loads."""
        del out

    def reopen(self, export: Export, out: Path) -> None:
        """None: nothing to compare."""
        del export, out

    def usage(self, export: Export) -> str:
        """Its model with the plan's weights in place, as transformers has it."""
        del export
        return (
            'import allocator\n\nmodel, processor = allocator.load("{out}/plan.json")'
        )


PLUGIN: Exporter = PlanExporter()
