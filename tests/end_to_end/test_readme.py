"""What README and CONTRIBUTING show is what happens."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from allocator.cli.search import main
from allocator.core.home import cache_home
from allocator.core.plugins import available, load
from allocator.core.ports import Selection
from allocator.embedded import HERE
from evals.world.files import ensure_world

if TYPE_CHECKING:
    from allocator.core.ports import Sample

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
LONGEST = 220
PLUGINS = ("allocator.families", "quant.methods", "evals.tasks", "allocator.strategies")
# the smallest plug-ins that CONTRIBUTING shows whole: package and contract tests
SHOWN = {
    "Narrow": ("allocator.strategies", "test_strategy.py"),
    "Lines": ("allocator.exporters", "test_exporter.py"),
    "Plain": ("quant.methods", "test_method.py"),
}


def test_the_readme_is_short_and_names_every_plug_in_and_command() -> None:
    assert len(README.splitlines()) <= LONGEST
    for package in PLUGINS:
        for name in available(package):
            assert f"`{name}`" in README or f"{name}" in README.split("```")[-1], name
    for name in main.commands:
        assert f"allocate {name}" in README, name


def test_ci_calls_the_test_command_of_the_readme() -> None:
    assert "\n    python -m pytest\n" in README
    assert "\npython -m pytest\n" in (ROOT / ".ci/run").read_text()


def replies_of(model: Any, processor: Any, samples: tuple[Sample, ...]) -> list[str]:
    """What transformers alone makes of pictures and questions."""
    from PIL import Image

    prompts = json.loads((HERE / "tiny-llava" / "prompts.json").read_text())
    batch = processor(
        images=[Image.open(sample.image).convert("RGB") for sample in samples],
        text=[prompts["vqa"].format(sample.text).strip() for sample in samples],
        padding=True,
        return_tensors="pt",
    )
    ids = model.generate(**batch, max_new_tokens=10, do_sample=False)
    told = processor.batch_decode(
        ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return [text.strip() for text in told]


@pytest.mark.slow
@pytest.mark.nightly
def test_the_python_example_runs_and_loads_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import allocator

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    # as it stands, with fewer proposals
    fewer = example[1].replace('"tiny-llava")', '"tiny-llava", trials=5)')
    assert fewer != example[1]
    exec(fewer, names)
    bpw, score, choice = capsys.readouterr().out.split("\n")[0].split()
    assert float(bpw) <= 4.0
    # far above every uniform allocation that fits (65 to 79)
    assert float(score) > 90
    assert choice == str(names["found"].allocation["language.front.attn"])
    assert [member["bpw"] for member in names["front"]]
    assert set(names["shares"]) == {"vision", "connector", "language"}
    # the plan of the same study gives the same score, and transformers' own generate
    # gives the replies that scored so
    study = names["found"].study
    main(
        ["export", study, "--format", "plan", "--out", str(tmp_path / "plan")],
        "allocate",
        standalone_mode=False,
    )
    again = allocator.evaluate(plan=tmp_path / "plan" / "plan.json", progress=False)
    assert again["score"] == names["found"].score.mean
    task = load("evals.tasks", "vqav2")
    samples = task.samples(ensure_world(cache_home()), "evaluation", Selection(0))[:200]
    replies = replies_of(names["model"].cpu(), names["processor"], samples)
    values = [each["value"] for each in again["values"]][:200]
    # float32 sums in batches of another size may turn a reply that was nearly tied
    differ = sum(
        a != b for a, b in zip(task.score(replies, samples).values, values, strict=True)
    )
    assert differ <= 2


@pytest.mark.slow
@pytest.mark.parametrize("title", SHOWN)
def test_the_plug_ins_that_contributing_shows_keep_the_contracts(
    title: str, tmp_path: Path
) -> None:
    package, tests = SHOWN[title]
    blocks = re.findall(r"```python\n(.*?)```", CONTRIBUTING, re.DOTALL)
    (shown,) = [block for block in blocks if f"class {title}" in block]
    name = title.lower()
    (folder := tmp_path / "plug-ins").mkdir()
    (folder / f"{name}.py").write_text(shown)
    (tmp_path / "with_it.py").write_text(
        f"import {package}\n{package}.__path__.append({str(folder)!r})\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "with_it", "-k", name),
            f"tests/contracts/{tests}",
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 4
