"""The plan file: what `allocate evaluate --plan` reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.core.ports import Exporter


class PlanExporter:
    """Writes `plan.json`: bits and method of every group and every linear."""

    description = "bits and method of every group and linear, as JSON"

    def write(self, plan: Mapping[str, Any], out: Path) -> Path:
        """Write under `out` and return the file written.

        Raises:
            SpecError: `out` cannot be made or written to.
        """
        file, draft = out / "plan.json", out / ".plan.json.part"
        try:
            out.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(plan, indent=1) + "\n")
            draft.replace(file)
        except OSError as error:
            raise SpecError(f"cannot write {file}: {error}") from None
        return file


PLUGIN: Exporter = PlanExporter()
