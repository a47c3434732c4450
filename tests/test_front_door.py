"""`import allocator`: the commands as functions, light until they are called."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import allocator
from allocator.cli.search import main
from allocator.core import records
from allocator.embedded import HERE
from tests.report.data import MARKUP, hostile_data, search_data

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
TABLE = str(ROOT / "studies" / "published" / "blip2_coco_awq.csv")
HEAVY = ("torch", "optuna", "click", "transformers", "numpy", "sklearn", "pandas")


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data-home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))


def test_importing_it_imports_nothing_heavy() -> None:
    code = f"import sys, allocator; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "[]"


def test_every_name_is_there_and_told_of() -> None:
    assert set(allocator.__all__) < set(dir(allocator))
    for name in dir(allocator):
        assert inspect.getdoc(getattr(allocator, name)), name
    with pytest.raises(AttributeError, match="no attribute 'alocat'"):
        allocator.alocat  # noqa: B018


@pytest.mark.parametrize("name", allocator.__all__)
def test_functions_tell_arguments_results_errors_and_show_an_example(name: str) -> None:
    told = inspect.getdoc(getattr(allocator, name)) or ""
    for part in ("Args:", "Returns:", "Raises:", "Example:"):
        assert part in told, part


def test_no_name_is_that_of_a_room() -> None:
    rooms = {folder.name for folder in (ROOT / "allocator").iterdir()}
    assert not rooms & set(dir(allocator))


Request = tuple[tuple[str, ...], "Callable[[], Any]"]
REQUESTS: list[Request] = [
    (("--task", "vqav2"), lambda: allocator.allocate(task="vqav2")),
    (("--budget", "4.0"), lambda: allocator.allocate(4.0)),
    (
        ("--budget", "four", "--task", "vqav2"),
        lambda: allocator.allocate("four", "vqav2"),
    ),
    (
        ("--budget", "0.5", "--task", "vqav2"),
        lambda: allocator.allocate(budget=0.5, task="vqav2"),
    ),
    (
        ("--budget", "4.0", "--task", "vqav2", "--model", "tiny-blip3"),
        lambda: allocator.allocate(4.0, "vqav2", model="tiny-blip3"),
    ),
    (
        ("--budget", "4.0", "--task", "vqav2", "--widths", "2,7"),
        lambda: allocator.allocate(4.0, "vqav2", widths=[2, 7]),
    ),
    (
        ("--budget", "4.0", "--front", "--task", "vqav2"),
        lambda: allocator.allocate(4.0, "vqav2", front=True),
    ),
    (
        ("inspect", "--granularity", "thirds"),
        lambda: allocator.inspect(granularity="thirds"),
    ),
    (
        ("inspect", "--model", "tiny-llava", "--task", "flickr30k"),
        lambda: allocator.inspect("tiny-llava", task="flickr30k"),
    ),
    (("evaluate",), lambda: allocator.evaluate()),
    (
        ("evaluate", "--plan", "nowhere.json"),
        lambda: allocator.evaluate(plan="nowhere.json"),
    ),
    (
        ("export", "--plan", "nowhere.json", "--format", "plan", "--out", "there"),
        lambda: allocator.export("nowhere.json", "plan", "there"),
    ),
    (
        ("export", "--plan", "nowhere.json", "--format", "plans", "--out", "there"),
        lambda: allocator.export("nowhere.json", "plans", "there"),
    ),
    (
        ("export", "--plan", "a.json", "--format", "plan", "--out", "b", "--trial=1"),
        lambda: allocator.export("a.json", "plan", "b", trial=1),
    ),
    (("studies", "show", "nobody"), lambda: allocator.open_study("nobody")),
    (
        ("replay", "nowhere.csv", "--score", "CIDEr", "--budget", "4.5"),
        lambda: allocator.replay("nowhere.csv", score="CIDEr", budget=4.5),
    ),
    (
        ("replay", TABLE, "--score", "CIDEr", "--budget", "3.5GiB"),
        lambda: allocator.replay(TABLE, score="CIDEr", budget="3.5GiB"),
    ),
]


@pytest.mark.parametrize(
    ("words", "call"), REQUESTS, ids=[" ".join(words) for words, _ in REQUESTS]
)
def test_it_refuses_in_the_words_of_the_command(
    words: tuple[str, ...], call: Callable[[], Any]
) -> None:
    done = CliRunner().invoke(main, words)
    with pytest.raises(allocator.AllocateError) as caught:
        call()
    assert done.exit_code == 2
    assert done.stderr == f"allocate: {caught.value}\n"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: allocator.allocate(4.0, "vqav2", trails=3), "Did you mean 'trials'?"),
        (lambda: allocator.allocate(4.0, "vqav2", trials="3"), "it is a whole number"),
        (lambda: allocator.evaluate("tiny-llava", "vqav2", dat="x"), "'data'?"),
        (lambda: allocator.inspect(trials=3), "no study option 'trials'"),
        (
            lambda: allocator.replay(TABLE, score="CIDEr", budget=4, groups="x"),
            "no study option 'groups'",
        ),
        (lambda: allocator.load(4), "4 is not a recommendation, a study or a plan"),
        (lambda: allocator.load(str(ROOT)), f"no plan file {ROOT}/plan.json"),
        (
            lambda: allocator.evaluate("tiny-llava", "vqav2", budget=4),
            "no study option",
        ),
        (lambda: allocator.allocate(task_set="gqa"), "'task_set'"),
        (lambda: allocator.allocate(4.0, "vqav2", spec=4), "4 is not the name of a"),
        (lambda: allocator.open_study(3), "study name 3 may have letters"),
        (lambda: allocator.replay(str(ROOT), score="a", budget=4), "cannot be read"),
        (lambda: allocator.replay(TABLE, score="a", budget=None), "needs --budget"),
        (lambda: allocator.export(4, "plan", "there"), "4 is not a recommendation"),
        (lambda: allocator.export("a.json", 4, "there"), "format = 4 is of the wrong"),
        (lambda: allocator.export("a.json", "plan", 4), "4 is not the name of a"),
        (
            lambda: allocator.export("a.json", "plan", "b", trial="1"),
            "trial = '1' is of the wrong type: it is a whole number",
        ),
        (lambda: allocator.export("a.json", "plan", "b", dat="x"), "'data'?"),
        (lambda: allocator.load("nowhere.json"), "there is no plan file nowhere.json"),
    ],
)
def test_what_only_python_can_get_wrong_is_one_sentence(
    call: Callable[[], Any], said: str
) -> None:
    with pytest.raises(allocator.AllocateError) as caught:
        call()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_inspecting_under_pins_gives_the_smallest_size_under_them() -> None:
    plain = allocator.inspect("tiny-llava")
    found = allocator.inspect("tiny-llava", pin="vision.*=16", at_least=["*.ff=3"])
    size = {each["bits"]: each["bytes"] for each in plain["uniform"]}
    assert found["smallest_bpw"] == found["uniform"][0]["bpw"]
    # vision has 98,304 weights, two bytes each, in place of codes of two bits with
    # scales and zero-points; the language's ff, 73,728 weights, a bit more
    assert (
        found["uniform"][0]["bytes"] > size[2] + 98_304 * 14 / 8 + 73_728 / 8 - 20_000
    )
    assert found["uniform"][0]["bytes"] < size[2] + 98_304 * 14 / 8 + 73_728 / 8 + 500
    assert found["uniform"][-1] == plain["uniform"][-1]
    assert found["pins"]["pin"] == ["vision.*=16"]
    words = ["inspect", "--model", "tiny-llava", "--json", "--pin", "vision.*=16"]
    told = CliRunner().invoke(main, [*words, "--at-least", "*.ff=3"]).stdout
    assert json.loads(told) == found


def test_inspecting_gives_what_the_command_prints_as_json() -> None:
    words = ("inspect", "--model", "tiny-llava", "--granularity", "group", "--json")
    printed = json.loads(CliRunner().invoke(main, words).stdout)
    assert allocator.inspect("tiny-llava", granularity="group") == printed


def test_values_are_taken_as_notebooks_have_them() -> None:
    import numpy as np

    usual = allocator.inspect("tiny-llava", widths=[2, 4], methods=["gptq"])
    for widths, methods in ((np.array([2, 4]), "gptq"), ("2,4", ("gptq",))):
        found = allocator.inspect("tiny-llava", widths=widths, methods=methods)
        assert found == usual
    with pytest.raises(allocator.AllocateError, match="trials must be 1 or more"):
        allocator.allocate(np.float32(4), ["vqav2", "coco"], trials=np.int64(0))


def test_a_group_that_is_not_there_gets_its_near_miss() -> None:
    allocation = allocator.Allocation.of(
        ["language.end.ff"], {"language.end.ff": allocator.Choice(16)}
    )
    with pytest.raises(allocator.AllocateError, match=r"mean 'language\.end\.ff'"):
        allocation["language.end.f"]


def test_a_folder_may_be_a_path(tmp_path: Path) -> None:
    with pytest.raises(allocator.AllocateError, match=r"no config\.json"):
        allocator.inspect(model=tmp_path)  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_replay_is_that_of_the_command() -> None:
    words = ("replay", TABLE, "--score", "CIDEr", "--budget", "4.5", "--json")
    printed = json.loads(CliRunner().invoke(main, [*words, "--trials", "8"]).stdout)
    found = allocator.replay(
        TABLE, score="CIDEr", budget=4.5, trials=8, progress=False
    ).to_json()
    assert {**found, "seconds": None} == {**printed, "seconds": None}


def handmade(file: Path, bits: dict[str, int]) -> Path:
    """A plan by hand: widths of components of the embedded LLaVA, round to nearest."""
    model = allocator.inspect("tiny-llava")
    groups = {}
    for group in model["groups"]:
        width = bits.get(group["key"].split(".")[0], 16)
        groups[group["key"]] = {
            "bits": width,
            "method": None if width == 16 else "uniform",
        }
    plan = {"model": "tiny-llava", "task": "vqav2", "calibration": 8, "groups": groups}
    file.write_text(json.dumps(plan))
    return file


def test_a_plan_of_sixteen_bits_loads_the_checkpoint_as_it_is(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    plan = handmade(tmp_path / "plan.json", {})
    model, processor = allocator.load(plan, device="cpu", progress=False)
    stored = load_file(HERE / "tiny-llava" / "model.safetensors")
    name = "multi_modal_projector.linear_1.weight"
    loaded = model.state_dict()[f"model.{name}"]
    assert loaded.equal(stored[name if name in stored else f"model.{name}"].to(loaded))
    assert processor.tokenizer("what")["input_ids"]


@pytest.mark.slow
def test_a_plan_below_sixteen_bits_changes_what_it_names_alone(tmp_path: Path) -> None:
    whole, _ = allocator.load(handmade(tmp_path / "16.json", {}), device="cpu")
    plan = handmade(tmp_path / "2.json", {"vision": 2})
    low, _ = allocator.load(plan, device="cpu", progress=False)
    inside = {
        x for g in allocator.inspect("tiny-llava")["groups"] for x in g["linears"]
    }
    for name, weight in whole.named_parameters():
        linear = name.removesuffix(".weight")
        changes = linear in inside and "vision" in linear
        assert low.get_parameter(name).equal(weight) != changes, name


def test_a_recommendation_shows_itself_short_and_to_notebooks_whole() -> None:
    found = search_data()
    shown = allocator.report.notebook.recommendation_html(
        found["found"], found["front"]
    )
    assert "recommended, finalized" in shown
    assert "data:image/png;base64," in shown
    hostile = hostile_data()["found"]
    assert MARKUP not in allocator.report.notebook.recommendation_html(hostile)


def test_a_recommendation_for_notebooks_is_the_recommendation() -> None:
    names = {field.name for field in fields(records.Recommendation)}
    assert names == {field.name for field in fields(allocator.Recommendation)}
    assert issubclass(allocator.Recommendation, records.Recommendation)
