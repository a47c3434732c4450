"""The plan file: what `allocate evaluate --plan` reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from allocator.core.errors import BankError, SpecError
from allocator.core.plan import FINALIZED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.core.ports import Exporter


class PlanExporter:
    """Writes `plan.json`: bits and method of every group and every linear.

    Weights that were quantized in sequence for it are written beside it, packed.
    """

    description = "bits and method of every group and linear, as JSON"

    def write(self, plan: Mapping[str, Any], out: Path) -> Path:
        """Write under `out` and return the plan's file.

        Raises:
            SpecError: `out` cannot be made or written to.
            BankError: the plan's finalized weights are gone.
        """
        file, draft = out / "plan.json", out / ".plan.json.part"
        if plan.get("finalized") is not None:
            _copy_finalized(plan["finalized"], out / FINALIZED)
        try:
            out.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(plan, indent=1) + "\n")
            draft.replace(file)
        except OSError as error:
            raise SpecError(f"cannot write {file}: {error}") from None
        return file


def _copy_finalized(name: str, target: Path) -> None:
    """Write the weights with the plan: whole, or not at all."""
    # brings torch, which most plans do not need
    from allocator.bench.finalize import open_finalized

    try:
        found = open_finalized(name)
    except BankError as error:
        raise BankError(f"{error}; search again to make them") from None
    found.copy(target)


PLUGIN: Exporter = PlanExporter()
