from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import SpecError
from allocator.core.study import StudySpec

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.999])
def test_a_score_may_be_kept_with_any_probability_from_a_half_on(
    confidence: float,
) -> None:
    asked = StudySpec(None, "vqav2", min_score=0.98, confidence=confidence)
    assert asked.confidence == confidence


@pytest.mark.parametrize(
    "confidence", [0, 0.4999, 1, 1.0, 95, -1, float("nan"), float("inf")]
)
def test_what_is_no_probability_from_a_half_on_is_refused(confidence: float) -> None:
    with pytest.raises(SpecError, match=r"from 0\.5 on and below 1"):
        StudySpec(None, "vqav2", min_score=0.98, confidence=confidence)


@pytest.mark.parametrize("goal", [{"budget": "4"}, {"front": True}], ids=str)
def test_a_confidence_goes_with_a_score_to_keep_alone(goal: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"\(0\.9\) goes with a minimal score"):
        StudySpec(**{"budget": None, "task": "vqav2", "confidence": 0.9, **goal})


def test_a_files_confidence_stays_with_a_score_to_keep_and_goes_with_another_goal(
    tmp_path: Path,
) -> None:
    file = tmp_path / "study.toml"
    file.write_text('task = "vqav2"\nmin_score = 0.9\nconfidence = 0.8\n')
    assert StudySpec.from_toml(file, {}).confidence == 0.8
    assert StudySpec.from_toml(file, {"min_score": 0.95}).confidence == 0.8
    assert StudySpec.from_toml(file, {"min_score": 0.95, "confidence": 0.7}) == (
        StudySpec(None, "vqav2", min_score=0.95, confidence=0.7)
    )
    assert StudySpec.from_toml(file, {"budget": "4"}) == StudySpec("4", "vqav2")
