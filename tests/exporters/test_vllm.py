"""vLLM computes with what is exported for it as with the weights it stands for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from studies.export.vllm import BITS, EXACT, Case, checkpoint, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("case", EXACT, ids=lambda case: case.name)
def test_vision_and_connector_are_at_4_bits_and_half_of_the_language_is(
    case: Case, tmp_path: Path
) -> None:
    made = checkpoint(case, tmp_path / "model")
    bits = {linear.name: made.choices[linear.name].bits for linear in made.spec.linears}
    seeing = [x.name for x in made.spec.linears if x.component != "language"]
    assert {bits[name] for name in seeing} == {BITS}
    assert {bits[name] for name in set(bits) - set(seeing)} == {BITS, 16}


@pytest.mark.slow
def test_log_probabilities_and_replies_are_those_of_the_plain_weights(
    tmp_path: Path,
) -> None:
    python = os.environ.get("ALLOCATE_VLLM_PYTHON")
    if not python:
        pytest.skip("ALLOCATE_VLLM_PYTHON names no Python that has vLLM 0.32")
    for case in EXACT:
        found = run(python, case, tmp_path)
        assert found["replies_equal"] == found["replies"] == 4, found
        assert found["largest_difference_of_logprobs"] == 0, found
        # halves against float32
        assert found["largest_difference_to_transformers"] < 0.1, found
        packed = [n for name, n in found["layers"].items() if "WNA16" in name]
        assert sum(packed) > found["linears_at_16_bits"] / 3, found
