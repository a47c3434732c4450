"""What a target lets through is what its exporter writes."""

from __future__ import annotations

from allocator.core.holding import MODELS
from allocator.exporters._mlx_models import KNOWN


def test_models_that_a_target_takes_are_those_that_its_exporter_knows() -> None:
    assert set(MODELS["mlx"]) == set(KNOWN)
