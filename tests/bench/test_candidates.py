"""Allocations from files, held against what a search may choose."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench.candidates import read_candidates
from allocator.core.allocation import Allocation, Choice
from allocator.core.errors import AllocateError, BudgetError, SpecError
from allocator.core.plan import plan_json
from allocator.core.spec import Granularity, ModelSpec, build_groups
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.space.model import ModelSpace
from tests.bench.imported.llava import TEXT, linears, spec

if TYPE_CHECKING:
    from pathlib import Path

Q, K = f"{TEXT}.0.self_attn.q_proj", f"{TEXT}.0.self_attn.k_proj"
EVERYTHING = "\n".join(f"{linear.name}: 4" for linear in linears())


def at(granularity: Granularity) -> ModelSpec:
    return replace(spec(), groups=build_groups(linears(), granularity))


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


def candidates(
    *files: Path, heard: Heard | None = None, budget: str = "16", **options: Any
) -> tuple[tuple[str, Allocation], ...]:
    named = tuple(map(str, files))
    asked = StudySpec.read(
        {"budget": budget, "task": "vqav2", "candidates": named, **options}
    )
    space = ModelSpace(spec(), asked.scheme, asked.choices, asked.limit, asked.pins)
    return read_candidates(asked, space, at, heard)


def test_a_file_of_another_tool_is_an_allocation_with_exceptions(
    tmp_path: Path,
) -> None:
    file, heard = tmp_path / "evo.txt", Heard()
    file.write_text(EVERYTHING.replace(f"{Q}: 4", f"{Q}: 8"))
    [(name, found)] = candidates(file, heard=heard)
    assert name == str(file)
    assert set(dict(found.choices).values()) == {Choice(4, "gptq")}
    assert found.layers == ((Q, Choice(8, "gptq")),)
    assert heard.said == []


def test_what_is_otherwise_than_in_the_file_is_said(tmp_path: Path) -> None:
    file, heard = tmp_path / "ar.json", Heard()
    file.write_text(json.dumps({TEXT: {"bits": 4, "group_size": 64}}))
    candidates(file, heard=heard)
    assert [line.partition(") ")[2].partition(" ")[0] for line in heard.said] == [
        *("says", "names", "has")
    ]


@pytest.mark.parametrize("granularity", ["component", "type", "block"])
def test_a_plan_of_any_granularity_is_taken_linear_by_linear(
    tmp_path: Path, granularity: Granularity
) -> None:
    other = at(granularity)
    whole = Allocation.uniform(other, Choice(4, "awq"))
    made = whole.but({Q: Choice(16)})
    asked = StudySpec("4.0", "vqav2", model="llava", granularity=granularity)
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan_json(asked, other, made)))
    [(_, found)] = candidates(file)
    assert found.of_linears(spec()) == made.of_linears(other)


def test_a_plan_of_another_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    groups = {"vision.all.all": {"bits": 16}}
    file.write_text(json.dumps({"model": "other", "groups": groups}))
    with pytest.raises(SpecError, match="was made for other and has other groups"):
        candidates(file)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (EVERYTHING, {"methods": ("awq",), "widths": (3, 16)}, "4/awq .*: change --wi"),
        (f"{Q}: 4", {"widths": (3, 4)}, "16 for .*: change --widths"),
        (EVERYTHING, {"pin": ("vision.*=16",)}, r"which the pins .*vision\.\*=16"),
    ],
)
def test_what_the_search_may_not_choose_is_refused(
    tmp_path: Path, content: str, options: dict[str, Any], said: str
) -> None:
    file = tmp_path / "evo.txt"
    file.write_text(content)
    with pytest.raises(SpecError, match=rf"candidate .*evo\.txt has .*{said}"):
        candidates(file, **options)


def test_what_a_target_has_as_one_matrix_has_one_width(tmp_path: Path) -> None:
    file = tmp_path / "evo.txt"
    file.write_text(f"{Q}: 4\n{K}: 8")
    assert candidates(file)
    with pytest.raises(SpecError, match=r"candidate .*: target vllm holds as one"):
        candidates(file, target="vllm")


def test_one_over_the_budget_is_refused_with_both_sizes(tmp_path: Path) -> None:
    file = tmp_path / "evo.txt"
    file.write_text(EVERYTHING)
    # codes, a scale and a zero-point a group, 16 bytes of shape a matrix
    weights = sum(linear.weights for linear in linears())
    size = weights // 2 + weights // 128 * 2 + weights // 128 // 2 + 19 * 16
    with pytest.raises(BudgetError, match=rf"bpw \({size:,} bytes; quantized scope\)"):
        candidates(file, budget="4", budget_scope="quantized")
    assert candidates(file, budget=f"{size}b", budget_scope="quantized")


def test_a_file_is_named_once_and_has_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "evo.txt"
    file.write_text(EVERYTHING)
    with pytest.raises(SpecError, match=r"evo\.txt is given twice"):
        candidates(file, file)
    with pytest.raises(AllocateError, match=r"there is no plan file .*gone"):
        candidates(tmp_path / "gone")
