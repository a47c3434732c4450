from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.errors import (
    AllocateError,
    BudgetError,
    SpecError,
    StudyError,
    UnknownNameError,
)
from allocator.core.pins import Pins
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
        ({"pin": ("vision.*",)}, SpecError, "--pin 'vision.\\*' is not PATTERN=BITS"),
        ({"pin": ("*=4/gtpq",)}, SpecError, "not among those of this search, uniform"),
        ({"at_least": ("*=7",)}, SpecError, "width 7 is not one of"),
        ({"widths": (2, 4), "pin": ("*=8",)}, SpecError, "widths of this search, 2, 4"),
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


def test_pins_are_read_with_the_request_and_sixteen_bits_need_no_width() -> None:
    asked = replace(SPEC, widths=(2, 4), pin=("vision.*=16",), at_most=("*.ff=4",))
    assert asked.pins == Pins(("vision.*=16",), (), ("*.ff=4",))
    assert Choice(16) not in asked.choices
    # a study of before kept none
    kept = {k: v for k, v in SPEC.to_json().items() if k not in ("pin", "at_least")}
    assert not StudySpec.read(kept).pins


def test_pins_are_lists_of_texts_in_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    base = 'budget = 9\ntask = "vqav2"\n'
    file.write_text(base + 'pin = ["vision.*=16"]\nat_least = ["language.*=3"]\n')
    asked = StudySpec.from_toml(file, {})
    assert (asked.pin, asked.at_least) == (("vision.*=16",), ("language.*=3",))
    # as with every option, what is given comes before what the file says
    given = StudySpec.from_toml(file, {"pin": ("*.ff=8",)})
    assert (given.pin, given.at_least) == (("*.ff=8",), ("language.*=3",))
    for wrong in ('pin = "vision.*=16"', "pin = [16]", 'pin = {"vision.*" = 16}'):
        file.write_text(base + wrong)
        with pytest.raises(
            SpecError, match=r'pin = .* a list of texts such as "vision'
        ):
            StudySpec.from_toml(file, {})


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


GOALS: tuple[dict[str, Any], ...] = (
    {"budget": "4"},
    {"front": True},
    {"min_score": 0.9},
)


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: next(iter(goal)))
def test_one_goal_is_enough(goal: dict[str, Any]) -> None:
    asked = StudySpec(**{"budget": None, "task": "vqav2", **goal})
    assert asked.limit == Budget(4.0 if "budget" in goal else 16.0)


@pytest.mark.parametrize(
    ("goals", "said"),
    [
        ((), "not for none of them"),
        ((0, 1), "not for a budget and the front"),
        ((0, 2), "not for a budget and a minimal score"),
        ((1, 2), "not for the front and a minimal score"),
        ((0, 1, 2), "not for a budget and the front and a minimal score"),
    ],
)
def test_a_search_is_for_one_goal_exactly(goals: tuple[int, ...], said: str) -> None:
    wanted = {key: value for at in goals for key, value in GOALS[at].items()}
    with pytest.raises(SpecError, match=f"{said}$"):
        StudySpec(**{"budget": None, "task": "vqav2", **wanted})


@pytest.mark.parametrize("share", [1e-9, 0.5, 0.98, 1, 1.0])
def test_a_share_of_the_score_may_be_kept(share: float) -> None:
    asked = StudySpec(budget=None, task="vqav2", min_score=share)
    assert asked.min_score == share


@pytest.mark.parametrize("share", [0, -0.5, 1.0001, 98, float("nan"), float("inf")])
def test_what_is_no_share_of_the_score_is_refused(share: float) -> None:
    with pytest.raises(SpecError, match=r"above 0 and at most 1, such as 0\.98, not"):
        StudySpec(budget=None, task="vqav2", min_score=share)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256MiB", 256 * 2**20),
        ("2GiB", 2**31),
        ("1.5kB", 1500),
        ("10 mb", 10_000_000),
        ("0B", 0),
    ],
)
def test_memory_is_read_with_its_unit(text: str, size: int) -> None:
    assert replace(SPEC, cache_memory=text).cache_bytes == size


@pytest.mark.parametrize(
    "text", ["", "nonsense", "5", "-1GiB", "4.0", "nanGiB", "1e3MB", "iB", "3TiB"]
)
def test_what_is_no_size_of_memory_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=f"{text!r} is not a size of memory"):
        replace(SPEC, cache_memory=text)


def test_toml_may_ask_for_everything(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        'task = "coco"\nmin_score = 0.95\nrungs = false\nfinalize = false\n'
        'cache_memory = "1GiB"\nstrategy = "evolution"\n'
    )
    asked = StudySpec.from_toml(file, {})
    assert (asked.budget, asked.min_score, asked.front) == (None, 0.95, False)
    assert (asked.rungs, asked.finalize, asked.strategy) == (False, False, "evolution")
    assert asked.cache_bytes == 2**30


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: next(iter(goal)))
@pytest.mark.parametrize("line", ["budget = 5", "front = true", "min_score = 0.5"])
def test_a_goal_given_beside_a_file_replaces_the_files(
    tmp_path: Path, line: str, goal: dict[str, Any]
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(f'task = "vqav2"\ntrials = 3\n{line}\n')
    asked = StudySpec.from_toml(file, goal)
    assert asked == StudySpec(**{"budget": None, "task": "vqav2", "trials": 3, **goal})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "names no budget, and neither front nor min_score"),
        ("front = false", "not for none of them"),
        ("front = true\nbudget = 4", "not for a budget and the front"),
        ("min_score = 98", "not 98"),
        ('front = "yes"', "front = 'yes' is of the wrong type"),
        ("min_score = true", "min_score = True is of the wrong type"),
        ("min_score = 0.9\nconfidence = 95", "not 95"),
        ('min_score = 0.9\nconfidence = "95%"', "of the wrong type: it is a number"),
        ("budget = 4\nrungs = 1", "rungs = 1 is of the wrong type"),
        ('budget = 4\nfinalize = "no"', "finalize = 'no' is of the wrong type"),
        ("budget = 4\ncache_memory = 5", "'5' is not a size of memory"),
        ("budget = 4\nrung = true", "Did you mean 'rungs'"),
    ],
)
def test_toml_that_asks_for_what_cannot_be_is_refused(
    tmp_path: Path, lines: str, said: str
) -> None:
    file = tmp_path / "study.toml"
    file.write_text(f'task = "vqav2"\n{lines}\n')
    with pytest.raises(AllocateError) as refused:
        StudySpec.from_toml(file, {})
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["a", "7", "tiny-blip2_vqav2.1", "x" * 100])
def test_a_name_that_can_be_a_file_is_a_study_name(name: str) -> None:
    assert check_study_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", ".a", "a/b", "a b", "été", "a\n", "x" * 101]
)
def test_any_other_study_name_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match="letters, digits"):
        check_study_name(name)
