"""What config.json of an export says is the allocation that was exported."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from allocator.bench.imports import imported
from allocator.core.allocation import FULL
from allocator.exporters import auto_round, compressed_tensors
from tests.exporters.models import KINDS, checkpoint_of, random_model, with_exceptions

if TYPE_CHECKING:
    from pathlib import Path

WIDTHS = (2, 3, 4, 5, 6, 8, FULL)


@pytest.mark.parametrize("kind", KINDS)
def test_exceptions_and_all_are_read_back(kind: str, tmp_path: Path) -> None:
    random_model(tmp_path / "model", kind, 128)
    made = with_exceptions(
        checkpoint_of(tmp_path / "model", WIDTHS), WIDTHS, random.Random(0)
    )
    wanted = {name: choice.bits for name, choice in made.choices.items()}
    file = tmp_path / "config.json"
    for exporter in (compressed_tensors, auto_round):
        config = exporter.quantization_config(made)
        file.write_text(json.dumps({"quantization_config": config}))
        found = imported(file, made.spec, made.scheme)
        assert {name: c.bits for name, c in found.choices.items()} == wanted
        # the grids are those of here
        assert not any("its widths are taken" in note for note in found.notes)
