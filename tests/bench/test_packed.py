"""Quantized folders are scored as transformers reads them, or refused by name."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator.bench import prepare, tasks
from allocator.bench.evaluate import evaluate_model
from allocator.bench.sums import SUMS, write_sums
from allocator.bench.tasks import data_folder, task_of
from allocator.bench.workbench import Workbench
from allocator.core.allocation import Allocation, stored_size
from allocator.core.errors import DataError, ModelError, SpecError
from allocator.core.ports import Selection
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.embedded import model_folder
from allocator.families import _quantized, family_of
from tests.exporters.models import checkpoint_of
from tests.exporters.written import expected, needs_library, written

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allocator.exporters._checkpoint import Checkpoint

installed = {
    "compressed-tensors": needs_library,
    "auto-round": pytest.mark.skipif(
        find_spec("auto_round") is None, reason="auto-round is not installed"
    ),
}
WIDTHS = (3, 4, 8, 16)
# a fiftieth of the published samples
FEW = {"task": "vqav2", "fraction": 0.02}


def exported(model: str, out: Path) -> Checkpoint:
    made = checkpoint_of(model_folder(model), WIDTHS, granularity="component")
    written(made, out)
    write_sums(out)
    return made


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("llava") / "out"
    exported("tiny-llava", out)
    return out


@pytest.fixture
def copy(llava: Path, tmp_path: Path) -> Path:
    """An export to be damaged, which has lost its checksums already."""
    shutil.copytree(llava, tmp_path / "copy")
    (tmp_path / "copy" / SUMS).unlink()
    return tmp_path / "copy"


def evaluate(folder: Path, **options: Any) -> dict[str, Any]:
    return evaluate_model({**FEW, "model": str(folder), **options}, None, Silent())


def values_of(made: Checkpoint, world: Path) -> list[float]:
    """Scores of a dense model with the weights that were written."""
    task = task_of("vqav2")
    samples = task.samples(world, "evaluation", Selection(fraction=FEW["fraction"]))
    bench = Workbench(expected(made), made.spec, task)
    whole = Allocation.from_json(
        made.spec, {key: {"bits": 16, "method": None} for key in made.spec.keys}
    )
    return list(bench.score(whole, samples).values)


@needs_library
@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny-llava", "tiny-blip2"])
def test_each_sample_scores_what_it_does_with_the_weights_that_were_written(
    model: str, tmp_path: Path, drawn_world: Path
) -> None:
    made = exported(model, tmp_path / "out")
    found = evaluate(tmp_path / "out", data=str(drawn_world))
    assert [each["value"] for each in found["values"]] == values_of(made, drawn_world)
    size = stored_size(made.spec, made.scheme, made.allocation, "transformers")
    assert found["bpw"] == size.bpw("model")
    assert found["loader"].startswith("transformers 5.")
    assert found["loader"].endswith(", float32")
    assert (found["plan"], found["bpw_quantized"]) == (None, None)


@installed["auto-round"]
@pytest.mark.slow
def test_a_model_that_stays_packed_scores_the_same(
    tmp_path: Path, drawn_world: Path
) -> None:
    from allocator.exporters._export import Export
    from allocator.exporters.auto_round import PLUGIN

    made = checkpoint_of(model_folder("tiny-llava"), WIDTHS)
    (tmp_path / "out").mkdir()
    PLUGIN.write(Export({}, lambda: made), tmp_path / "out", lambda *_: None)
    found = evaluate(tmp_path / "out", data=str(drawn_world))
    assert [each["value"] for each in found["values"]] == values_of(made, drawn_world)
    size = stored_size(made.spec, made.scheme, made.allocation, "auto-round")
    assert found["bpw"] == size.bpw("model")
    assert ", auto-round " in found["loader"]


def config(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Edits quantization_config."""

    def edit(folder: Path) -> None:
        file = folder / "config.json"
        data = json.loads(file.read_text())
        change(data["quantization_config"])
        file.write_text(json.dumps(data))

    return edit


def grid(**settings: Any) -> Callable[[Path], None]:
    """Edits the grid of the first group."""
    return config(lambda q: q["config_groups"]["group_0"]["weights"].update(settings))


def tensors(change: Callable[[str, Any], Any], *kinds: str) -> Callable[[Path], None]:
    """Edits tensors by the ends of their names; None takes one out."""

    def edit(folder: Path) -> None:
        file = folder / "model.safetensors"
        kept = load_file(file)
        for name in [name for name in kept if name.endswith(kinds)]:
            value = change(name, kept.pop(name))
            if value is not None:
                kept[name] = value
        save_file(kept, file, metadata={"format": "pt"})

    return edit


def cut_short(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a width of as many words": (
        grid(num_bits=7),
        "num_bits 7 .* only 2, 3, 4, 5, 6, 8",
    ),
    "another width": (grid(num_bits=5), "wants another shape of"),
    "another group size": (grid(strategy="group", group_size=32), "another shape of"),
    "no zero-points": (grid(symmetric=True), "has no place for"),
    "floats": (grid(type="float"), "type 'float' .* only 'int'"),
    "a dropped group": (config(lambda q: q["config_groups"].popitem()), "finds no"),
    "no groups": (config(lambda q: q.pop("config_groups")), "no config_groups"),
    "a group of nothing": (
        config(lambda q: q["config_groups"].update(group_0=None)),
        "no config_groups with weights",
    ),
    "the first grid for all": (
        config(lambda q: q.update(dequantize=True)),
        "dequantize True .* only None, False",
    ),
    "activations": (
        config(lambda q: q["config_groups"]["group_0"].update(input_activations={})),
        "input_activations",
    ),
    "another library": (
        config(lambda q: q.update(quant_method="gptq")),
        "of 'gptq': .* those of compressed-tensors and auto-round are scored",
    ),
    "a name that is none": (config(lambda q: q.update(quant_method=[])), "are scored"),
    "codes as floats": (
        tensors(lambda _, v: v.float(), "weight_packed"),
        "as F32, and codes are I32",
    ),
    "a missing scale": (
        tensors(lambda k, v: None if "layers.1.mlp" in k else v, "weight_scale"),
        "finds no .*weight_scale",
    ),
    "scales that are none": (
        tensors(lambda _, v: torch.full_like(v, float("nan")), "weight_scale"),
        "is damaged: its weight .* no numbers",
    ),
    "a file cut short": (cut_short, "damaged or cut short"),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        "lacks model",
    ),
}


@needs_library
@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_export_has_no_score(
    what: str, copy: Path, drawn_world: Path
) -> None:
    damage, said = DAMAGES[what]
    damage(copy)
    with pytest.raises(ModelError, match=said):
        evaluate(copy, data=str(drawn_world))


@needs_library
def test_checksums_tell_what_nothing_else_would(llava: Path, tmp_path: Path) -> None:
    for number, damage in enumerate(
        (
            lambda folder: (folder / "prompts.json").unlink(),
            lambda folder: (folder / "chat_template.jinja").write_text(
                "{{ messages }}"
            ),
            tensors(lambda _, v: v.bitwise_xor(1), "weight_packed"),
        )
    ):
        folder = tmp_path / str(number)
        shutil.copytree(llava, folder)
        damage(folder)
        with pytest.raises(ModelError, match=SUMS):
            evaluate(folder)


def test_a_library_that_is_not_installed_is_named(
    llava: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_quantized, "installed", lambda _: None)
    said = "not installed: pip install 'compressed-tensors>=0.17,<0.18'"
    with pytest.raises(ModelError, match=said):
        evaluate(llava)


def test_everything_else_wants_weights_as_they_were_trained(llava: Path) -> None:
    asked = StudySpec("4.0", "vqav2", str(llava), "embedded")
    for refused in (lambda: family_of(llava), lambda: prepare.prepare(asked)):
        with pytest.raises(ModelError, match="weights are quantized already"):
            refused()


@needs_library
def test_tasks_that_count_relative_to_full_precision_are_refused(llava: Path) -> None:
    with pytest.raises(SpecError, match="give its tasks one by one"):
        evaluate(llava, task="vqav2+gqa")


def test_embedded_names_the_drawn_world(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tasks, "ensure_world", lambda _: tmp_path)
    monkeypatch.chdir(tmp_path)
    asked = StudySpec("4.0", "vqav2", "./model", "embedded")
    assert data_folder(asked) == tmp_path
    assert prepare.rerank_of(asked) == prepare.EMBEDDED_RERANK
    (tmp_path / "embedded").mkdir()
    with pytest.raises(DataError, match=r"write \./embedded for a folder"):
        data_folder(asked)
    with pytest.raises(DataError, match=r"bring their own \(--data embedded\)"):
        data_folder(StudySpec("4.0", "vqav2", "./model"))
