from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.errors import (
    AllocateError,
    BudgetError,
    SpecError,
    StudyError,
    UnknownNameError,
)
from allocator.core.records import (
    FrontMember,
    Importances,
    Interval,
    Recommendation,
    Share,
    UniformResult,
)
from allocator.core.study import StudySpec, check_study_name

if TYPE_CHECKING:
    from pathlib import Path

SPEC = StudySpec(budget="4.0", task="vqav2")


def test_the_defaults_are_those_of_the_design() -> None:
    assert SPEC.methods == ("uniform", "gptq", "awq")
    assert SPEC.widths == (2, 3, 4, 5, 6, 8, 16)
    assert SPEC.scheme == Scheme(128, symmetric=False)
    assert (SPEC.granularity, SPEC.budget_scope) == ("type", "model")
    assert (SPEC.model, SPEC.seed, SPEC.seconds) == ("tiny-blip2", 0, None)


def test_choices_run_from_narrow_to_wide_and_end_at_sixteen() -> None:
    asked = replace(SPEC, widths=(2, 4, 16), methods=("uniform", "awq"))
    assert [str(choice) for choice in asked.choices] == [
        *("2/uniform", "2/awq", "4/uniform", "4/awq", "16")
    ]


def test_sixteen_bits_are_a_choice_only_if_they_are_asked_for() -> None:
    asked = replace(SPEC, widths=(4,), methods=("gptq",))
    assert asked.choices == (Choice(4, "gptq"),)
    asked = replace(SPEC, widths=(4, 16), methods=("gptq",))
    assert asked.choices == (Choice(4, "gptq"), Choice(16))
    assert asked.low_widths == (4,)


def test_sixteen_bits_alone_leave_nothing_to_choose() -> None:
    with pytest.raises(SpecError, match="16 alone"):
        replace(SPEC, widths=(16,))


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(SpecError, match="-1"):
        replace(SPEC, seed=-1)


def test_the_budget_is_read_in_the_scope_asked_for() -> None:
    asked = replace(SPEC, budget="2kB", budget_scope="quantized")
    assert asked.limit == Budget(2_000.0, "bytes", "quantized")


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"widths": ()}, SpecError, "must be one or more"),
        ({"widths": (2, 7, 9)}, SpecError, "width 7, 9 is not possible"),
        ({"widths": (4, 2)}, SpecError, "rising"),
        ({"widths": (4, 4)}, SpecError, "each once"),
        ({"methods": ()}, SpecError, "one or more"),
        ({"methods": ("awq", "awq")}, SpecError, "each once"),
        ({"granularity": "types"}, UnknownNameError, "Did you mean 'type'"),
        ({"budget_scope": "whole"}, UnknownNameError, "known: model, quantized"),
        ({"trials": 0}, SpecError, "trials must be 1 or more, not 0"),
        ({"trials": -5}, SpecError, "not -5"),
        ({"seconds": 0.0}, SpecError, "time limit must be positive, not 0 s"),
        ({"seconds": float("nan")}, SpecError, "not nan s"),
        ({"group_size": 100}, SpecError, "group size 100 is not one of"),
        ({"study": "../x"}, StudyError, "letters, digits"),
        ({"budget": "plenty"}, BudgetError, "'plenty' is neither"),
        ({"budget": "-1"}, BudgetError, "not a positive number"),
    ],
)
def test_an_impossible_request_is_refused_when_it_is_made(
    change: dict[str, Any], error: type[AllocateError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        replace(SPEC, **change)


def test_a_request_survives_json() -> None:
    asked = replace(SPEC, widths=(2, 4), group_size="channel", study="a-b")
    again = StudySpec(**json.loads(json.dumps(asked.to_json())))
    assert again.choices == asked.choices
    assert (again.scheme, again.limit) == (asked.scheme, asked.limit)
    assert again.to_json().keys() == asked.to_json().keys()
    assert again.study == "a-b"


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    file = tmp_path / "study.toml"
    file.write_text(
        'budget = 4.5\ntask = "vqav2"\nwidths = [2, 4]\nmethods = ["awq"]\ntrials = 7\n'
    )
    return file


def test_a_study_is_read_from_toml(toml: Path) -> None:
    asked = StudySpec.from_toml(toml, {})
    assert asked == StudySpec(
        budget="4.5", task="vqav2", widths=(2, 4), methods=("awq",), trials=7
    )


def test_the_command_line_overrides_the_file(toml: Path) -> None:
    asked = StudySpec.from_toml(toml, {"budget": "2MB", "widths": (8,)})
    assert (asked.budget, asked.widths, asked.trials) == ("2MB", (8,), 7)


def test_the_command_line_supplies_what_the_file_leaves_out(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('task = "vqav2"\n')
    assert StudySpec.from_toml(file, {"budget": "4"}).limit == Budget(4.0)


def test_a_misspelt_option_is_answered_with_the_near_miss(toml: Path) -> None:
    toml.write_text(toml.read_text() + "trails = 3\n")
    with pytest.raises(UnknownNameError, match=r"'trails'.*Did you mean 'trials'"):
        StudySpec.from_toml(toml, {})


@pytest.mark.parametrize("missing", ["budget", "task"])
def test_a_file_without_budget_or_task_is_refused(toml: Path, missing: str) -> None:
    lines = toml.read_text().splitlines()
    toml.write_text("\n".join(x for x in lines if not x.startswith(missing)) + "\n")
    with pytest.raises(SpecError, match=rf"study\.toml names no {missing}"):
        StudySpec.from_toml(toml, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"there is no study file .*none\.toml"):
        StudySpec.from_toml(tmp_path / "none.toml", {})


@pytest.mark.parametrize("content", [b"budget = \n", b"\xff", b'{"budget": 4}'])
def test_a_file_that_is_not_toml_is_refused(toml: Path, content: bytes) -> None:
    toml.write_bytes(content)
    with pytest.raises(SpecError, match="cannot be read as TOML"):
        StudySpec.from_toml(toml, {})


@pytest.mark.parametrize(
    "line", ['trials = "many"', "widths = 4", 'methods = "gptq"', "study = 3"]
)
def test_an_option_of_another_kind_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "study.toml"
    file.write_text(f'budget = 4\ntask = "vqav2"\n{line}\n')
    with pytest.raises(AllocateError, match=line.split(" ", maxsplit=1)[0]):
        StudySpec.from_toml(file, {})


@pytest.mark.parametrize("name", ["a", "7", "tiny-blip2_vqav2.1", "x" * 100])
def test_a_name_that_can_be_a_file_is_a_study_name(name: str) -> None:
    assert check_study_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "a/b", "a b", "été", "a\n", "x" * 101]
)
def test_any_other_study_name_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match="letters, digits"):
        check_study_name(name)


def recommendation() -> Recommendation:
    best = UniformResult(Choice(3, "gptq"), "unused", 3.5, 60.0, fits=True)
    found = Allocation((("vision.all.all", Choice(4, "awq")),))
    return Recommendation(
        study="s",
        storage="sqlite://",
        model="m",
        task="t",
        metric="accuracy (%)",
        scheme=Scheme(64),
        budget_bpw=4.0,
        scope="model",
        full_precision=Interval(90.0, 88.0, 92.0),
        uniform=(best, UniformResult(Choice(8, "awq"), "", 9.0, None, fits=False)),
        allocation=found,
        applied="digest of the cells",
        bpw=3.9,
        bpw_quantized=3.7,
        score=Interval(70.0, 68.0, 72.0),
        versus=Interval(10.0, 8.0, 12.0),
        best_uniform=best,
        front=(FrontMember(found, 3.9, 71.0),),
        importance=Importances((("vision", Share(100.0, 90.0, 100.0)),), ()),
        complete=5,
        pruned=2,
        failed=1,
        infeasible=0,
        evaluated_samples=700,
        seconds=(("total", 9.0), ("bank", 1.0), ("search", 6.0), ("confirm", 2.0)),
        details=(("BLEU-4", 0.3, 0.4),),
    )


def test_json_has_the_keys_that_are_part_of_the_interface() -> None:
    found = json.loads(json.dumps(recommendation().to_json()))
    assert found.keys() >= {
        *("study", "storage", "model", "task", "metric", "higher_is_better", "budget"),
        *("full_precision", "uniform", "recommended", "front", "importance", "trials"),
        *("evaluated_samples", "seconds"),
    }
    assert found["budget"] == {"bpw": 4.0, "scope": "model"}
    full = {"score": 90, "ci95": [88, 92], "bpw": 16, "details": {"BLEU-4": 0.4}}
    assert found["full_precision"] == full
    assert found["trials"] == {"complete": 5, "pruned": 2, "failed": 1, "infeasible": 0}
    assert found["seconds"].keys() == {"total", "bank", "search", "confirm"}
    assert found["importance"]["component"] == {
        "vision": {"consensus": 100, "ci95": [90, 100]}
    }
    assert found["importance"]["group"] == {}


def test_json_shows_what_is_recommended_and_what_it_was_compared_with() -> None:
    asked = recommendation()
    found = json.loads(json.dumps(asked.to_json()))
    assert found["recommended"] == {
        "digest": asked.allocation.digest,
        "applied": "digest of the cells",
        "finalized": None,
        "allocation": {"vision.all.all": {"bits": 4, "method": "awq"}},
        "bpw": 3.9,
        "bpw_quantized": 3.7,
        "score": 70,
        "ci95": [68, 72],
        "retained": None,
        "details": {"BLEU-4": 0.3},
        "vs_best_uniform": {"difference": 10, "ci95": [8, 12]},
    }
    assert found["uniform"] == [
        {"bits": 3, "method": "gptq", "bpw": 3.5, "score": 60, "fits": True},
        {"bits": 8, "method": "awq", "bpw": 9, "score": None, "fits": False},
    ]
    digest = asked.allocation.digest
    assert found["front"] == [{"digest": digest, "bpw": 3.9, "score": 71}]


def test_a_recommendation_says_whether_it_is_the_best_uniform_one() -> None:
    asked = recommendation()
    assert not asked.is_uniform
    same = replace(asked.best_uniform, digest=asked.allocation.digest)
    assert replace(asked, best_uniform=same).is_uniform
