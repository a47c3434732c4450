"""Wrong requests are refused in one sentence, before anything heavy is loaded."""

from __future__ import annotations

import json
import math
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from allocator.bench import contents
from allocator.bench.contents import Contents
from allocator.cli.search import main
from allocator.core.home import cache_home
from allocator.embedded import HERE
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

SEARCH = ("--budget", "4.0", "--task", "vqav2")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, drawn_world: Path) -> Iterator[None]:
    with homes(tmp_path, drawn_world):
        yield


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words)


def refused(result: Result) -> str:
    """The one sentence on stderr of a refused request."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert 1 <= len(lines) <= 6
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--budget", "-1", "--task", "vqav2"), "-1 is not a positive number"),
        (("--budget", "nan", "--task", "vqav2"), "nan is not a positive number"),
        (("--budget", "four", "--task", "vqav2"), "'four' is neither a number"),
        (("--budget", "4.0"), "--task missing"),
        (("--task", "vqav2"), "--budget missing"),
        (("--budget", "4.0", "--task", "vqa2"), "Did you mean 'vqav2'?"),
        ((*SEARCH, "--model", "tiny-blip3"), "Did you mean 'tiny-blip2'?"),
        ((*SEARCH, "--model", "./nowhere"), "no model folder ./nowhere"),
        ((*SEARCH, "--methods", "gptqq"), "Did you mean 'gptq'?"),
        ((*SEARCH, "--widths", "2,7"), "width 7 is not possible"),
        ((*SEARCH, "--widths", "two"), "'two' is not a list of widths"),
        ((*SEARCH, "--group-size", "100"), "group size 100 is not one of"),
        ((*SEARCH, "--pin", "vision=16"), "Did you mean 'vision.*'"),
        ((*SEARCH, "--pin", "*.head=8"), "groups only with --include"),
        ((*SEARCH, "--pin", "vision.*"), "is not PATTERN=BITS"),
        ((*SEARCH, "--at-most", "*=8/gptq"), "a width alone"),
        ((*SEARCH, "--pin", "*=4/awq", "--methods", "gptq"), "of this search, gptq"),
        ((*SEARCH, "--pin", "*.ff=8", "--pin", "vision.*=4"), "leave vision.front.ff"),
        (
            (*SEARCH, "--at-least", "*=8"),
            "smallest possible under the pins * at least 8",
        ),
        ((*SEARCH, "--pin", "*=16"), "that is full precision"),
        ((*SEARCH, "--granularity", "typ"), "Did you mean 'type'?"),
        ((*SEARCH, "--budget-scope", "all"), "'all'"),
        ((*SEARCH, "--strategy", "surogate"), "Did you mean 'surrogate'?"),
        ((*SEARCH, "--study", "../evil"), "'../evil' may have letters"),
        ((*SEARCH, "--trials", "0"), "trials must be 1 or more, not 0"),
        ((*SEARCH, "--time", "soon"), "'soon' is not a time"),
        ((*SEARCH, "--device", "cuda:7"), "'cuda:7'"),
        ((*SEARCH, "--device", "tpu"), "'tpu'"),
        (("--spec", "nowhere.toml"), "no study file nowhere.toml"),
        (("studies", "show", "nowhere"), "no study 'nowhere'"),
        (("export", "nowhere", "--format", "plan", "--out", "x"), "no study 'nowhere'"),
        (("evaluate", "--task", "vqav2", "--plan", "no.json"), "no plan file no.json"),
        (("inspect", "--model", "tiny"), "no embedded model 'tiny'"),
        (("inspect", "--model", ""), "no embedded model ''"),
        (("inspect", "--include", "heads"), "Did you mean 'head'?"),
        (("inspect", "--task", "flicker30k"), "Did you mean 'flickr30k'?"),
        (
            ("inspect", "--model", "tiny-llava", "--task", "flickr30k"),
            "flickr30k needs a ranking for each sample, and tiny-llava gives a reply",
        ),
        ((*SEARCH, "--include", "all"), "part to include 'all'"),
        ((*SEARCH, "--fraction", "some"), "'some' is not a fraction"),
        ((*SEARCH, "--fraction", "0"), "above 0 and at most 1, not 0"),
        ((*SEARCH, "--subset", "test"), "no subset 'test' (known: val2014)"),
        ((*SEARCH, "--beams", "0"), "beams must be 1 to 64, not 0"),
        ((*SEARCH, "--rerank", "-3"), "rerank must be 1 or more, not -3"),
        ((*SEARCH, "--task-set", "gqa,coco"), "name the task twice"),
        (("--budget", "4.0", "--task-set", "vqav2,goa"), "Did you mean 'gqa'?"),
        (("--budget", "4.0", "--task-set", "vqav2,,coco"), "'vqav2++coco' must be"),
        (("--budget", "4.0", "--task-set", "vqav2,flickr30k"), "no one model gives"),
        (("evaluate",), "needs --task or --task-set (tasks: chartqa, coco"),
        (("evaluate", "--task", "flickr30k", "--model", "tiny-llava"), "a ranking"),
        (("explain", "nowhere"), "no study 'nowhere'"),
        (("doctor", "--nonsense"), "--nonsense"),
        (("studies", "list", "--storage", "nonsense://x"), "'nonsense://x'"),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence(
    words: tuple[str, ...], said: str
) -> None:
    assert said in refused(run(*words))


def test_a_budget_below_the_smallest_possible_says_which_that_is() -> None:
    found = json.loads(run("inspect", "--model", "tiny-llava", "--json").stdout)
    sentence = refused(
        run("--budget", "0.5", "--task", "vqav2", "--model", "tiny-llava")
    )
    # rounded up to four digits, so that it can be asked for
    least = math.ceil(found["smallest_bpw"] * 10_000) / 10_000
    assert f"below the smallest possible, {least:.4f} bpw" in sentence
    assert f"{found['uniform'][0]['bytes']:,} bytes" in sentence


def test_an_unknown_storage_is_refused() -> None:
    said = refused(run(*SEARCH, "--model", "tiny-llava", "--storage", "nonsense://x"))
    assert "'nonsense://x' cannot be opened" in said


def test_a_data_folder_without_its_files_says_which_is_expected(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = refused(run(*SEARCH, "--data", str(tmp_path / "empty")))
    assert "v2_OpenEnded_mscoco_train2014_questions.json" in said


def test_a_users_model_needs_data(tmp_path: Path) -> None:
    shutil.copytree(HERE / "tiny-llava", tmp_path / "model")
    assert "needs --data DIR" in refused(
        run(*SEARCH, "--model", str(tmp_path / "model"))
    )


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = refused(run(*SEARCH, "--model", str(tmp_path / "empty")))
    assert "no config.json" in said


@pytest.mark.parametrize("damage", ["cut", "noise", "gone"])
def test_damaged_weights_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(HERE / "tiny-llava", folder)
    weights = folder / "model.safetensors"
    if damage == "gone":
        weights.unlink()
    else:
        content = weights.read_bytes()
        weights.write_bytes(content[:1000] if damage == "cut" else b"\xff" * 5000)
    assert "model.safetensors" in refused(run(*SEARCH, "--model", str(folder)))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors.index.json", "[]"),
        ("prompts.json", '["vqa"]'),
        ("prompts.json", "{"),
        ("config.json", '{"model_type": "llava", "text_config": {"model_type": "x"}}'),
    ],
)
def test_a_damaged_file_of_a_model_is_refused_by_name(
    tmp_path: Path, drawn_world: Path, name: str, content: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(HERE / "tiny-llava", folder)
    (folder / name).write_text(content)
    words = ("evaluate", "--task", "vqav2", "--model", str(folder))
    assert name in refused(run(*words, "--data", str(drawn_world)))


def test_a_picture_that_is_none_is_refused_by_name(
    tmp_path: Path, drawn_world: Path
) -> None:
    data = tmp_path / "world"
    shutil.copytree(drawn_world, data, ignore=shutil.ignore_patterns("*.jpg"))
    picture = min((drawn_world / "val2014").iterdir())
    for each in (drawn_world / "val2014").iterdir():
        (data / "val2014" / each.name).write_bytes(b"no picture")
    words = ("evaluate", "--task", "vqav2", "--model", "tiny-llava")
    said = refused(run(*words, "--data", str(data)))
    assert "cannot be read as a picture" in said
    assert picture.parent.name in said


def test_a_model_of_an_unknown_kind_says_which_are_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    said = refused(run(*SEARCH, "--model", str(tmp_path)))
    assert "'bert'" in said
    assert all(kind in said for kind in ("blip-2", "llava", "qwen2_5_vl"))


def test_a_plan_with_another_models_groups_is_refused(tmp_path: Path) -> None:
    plan = {"model": "tiny-llava", "groups": {"vision.front": {"bits": 16}}}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    words = ("evaluate", "--task", "vqav2", "--plan", str(tmp_path / "plan.json"))
    assert "vision.front" in refused(run(*words))


def test_inspect_names_every_group_and_what_is_left_out() -> None:
    found = json.loads(run("inspect", "--model", "tiny-blip2", "--json").stdout)
    # three parts of three components, each with attention and feed-forward
    assert len(found["groups"]) == 18
    assert {each["name"] for each in found["left_out"]} == {
        "language_projection",
        "language_model.lm_head",
    }
    grouped = sum(group["weights"] for group in found["groups"])
    assert grouped == found["quantized_weights"]
    # at most a tenth of an embedded model lies outside the groups
    assert grouped >= 0.9 * found["parameters"]


def test_doctor_knows_the_plug_ins() -> None:
    found = json.loads(run("doctor", "--json").stdout)
    assert {"uniform", "gptq", "awq"} <= set(found["methods"])
    assert {"tiny-blip2", "tiny-llava"} <= set(found["models"])
    assert "as JSON" in found["formats"]["plan"]["writes"]
    assert all("loader" in each for each in found["formats"].values())
    printed = run("doctor").stdout
    assert all(f"--format {name}" in printed for name in found["formats"])


def test_without_a_study_the_list_is_empty() -> None:
    assert json.loads(run("studies", "list", "--json").stdout) == []


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    said = refused(run("evaluate", "--task", "gqa", "--model", "tiny-llava"))
    assert str(tmp_path / "file") in said


@pytest.mark.parametrize("words", [(), ("evaluate",), ("bank", "build")])
def test_rehash_forgets_what_files_held(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"a")
    monkeypatch.setattr(contents, "SETTLED", -(10**18))
    Contents().of([file], "pictures")
    kept = cache_home() / "contents"
    assert kept.is_file()
    # refused for its task, before anything is read
    asked = (*words, "--task", "nothing")
    for more, there in (((), True), (("--rehash",), False)):
        assert run(*asked, *more).exit_code == 2
        assert kept.exists() == there
