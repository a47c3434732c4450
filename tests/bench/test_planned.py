"""A plan whose groups are not the model's: what differs is told at its granularity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.bench.planned import read_plan, setup_of
from allocator.core.allocation import Choice, Scheme
from allocator.core.errors import SpecError
from allocator.core.plan import Plan
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from tests.worlds import homes

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("vision.all.all", "connector.all.all", "language.all.all")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (PARTS[1:], "missing: vision.all.all"),
        ((*PARTS, "head"), "unknown: head"),
    ],
)
def test_groups_that_differ_are_told_at_the_granularity_of_the_plan(
    keys: tuple[str, ...], said: str, tmp_path: Path, drawn_world: Path
) -> None:
    plan = Plan("tiny-llava", Scheme(), dict.fromkeys(keys, Choice(4, "uniform")))
    asked = StudySpec("8.0", "vqav2", model="tiny-llava", fraction=0.05)
    with (
        homes(tmp_path, drawn_world),
        pytest.raises(SpecError, match=rf"other groups than tiny-llava \({said}\)"),
    ):
        setup_of(asked, plan, ("evaluation",), Silent())


def test_a_file_of_another_tool_is_a_plan_of_the_model_that_is_asked(
    tmp_path: Path,
) -> None:
    file = tmp_path / "evo.txt"
    names = [f"language_model.model.layers.{i}.mlp.up_proj" for i in range(3)]
    file.write_text(
        "".join(
            f"{name}: {bits}\n" for name, bits in zip(names, (2, 3, 3), strict=True)
        )
    )
    asked = {"model": "tiny-llava", "task": "vqav2"}
    plan = read_plan(file, asked, Silent())
    assert (plan.model, plan.methods, plan.widths) == (
        "tiny-llava",
        ("gptq",),
        (2, 3, 16),
    )
    # those of published checkpoints, under the names of transformers 5
    low = {name for name, choice in plan.layers.items() if choice.bits < 16}
    assert (
        low
        == plan.exceptions
        == {f"model.language_model.layers.{i}.mlp.up_proj" for i in range(3)}
    )
    assert plan.asked["task"] == "vqav2"
    with pytest.raises(SpecError, match=r"evo\.txt names no model: give --model"):
        read_plan(file, {"task": "vqav2"}, Silent())
    with pytest.raises(SpecError, match="an evaluation needs --task"):
        read_plan(file, {"model": "tiny-llava"}, Silent())
    with pytest.raises(SpecError, match=r"evo\.txt \(EvoPress\) names 'language_model"):
        read_plan(file, {"model": "tiny-blip2", "task": "vqav2"}, Silent())
