from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator.bench.contents import Contents
from allocator.bench.loading import open_bank, recipe_of
from allocator.bench.prepare import (
    Setup,
    model_for,
    prepare,
    weights_digest,
)
from allocator.bench.tasks import read_samples, task_of
from allocator.core.allocation import Allocation, Choice
from allocator.core.errors import DataError, SpecError
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.embedded import HERE
from quant.bank import read_manifest
from tests.worlds import homes


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Setup:
    with homes(tmp_path_factory.mktemp("homes"), drawn_world):
        return prepare(StudySpec("4.0", "vqav2", model="tiny-llava"))


@pytest.mark.parametrize(
    "free",
    [{"budget": "3.5"}, {"trials": 7}, {"seconds": 9.0}, {"strategy": "random"}],
)
def test_a_study_goes_on_under_another_budget_or_effort(
    setup: Setup, free: dict[str, object]
) -> None:
    assert replace(setup, asked=replace(setup.asked, **free)).study == setup.study


@pytest.mark.parametrize(
    "bound",
    [
        {"methods": ("uniform",)},
        {"widths": (2, 4, 16)},
        {"group_size": 64},
        {"symmetric": True},
        {"granularity": "block"},
        {"include": ("head",)},
        {"beams": 3},
        {"rerank": 8},
        {"seed": 1},
    ],
)
def test_what_changes_a_measurement_makes_another_study(
    setup: Setup, bound: dict[str, object]
) -> None:
    assert replace(setup, asked=replace(setup.asked, **bound)).study != setup.study


def asked_for(setup: Setup, target: str) -> Setup:
    """The same request for a target that changes no grid."""
    asked = replace(setup.asked, target=target)
    return replace(setup, asked=asked)


def test_another_target_makes_another_study_whose_name_tells_it(setup: Setup) -> None:
    assert setup.study == f"tiny-llava-vqav2-{setup.identity[:8]}"
    found = {asked_for(setup, target).study for target in ("none", "mlx", "vllm")}
    assert len(found) == 3
    assert setup.study in found
    assert asked_for(setup, "mlx").study.startswith("tiny-llava-vqav2-mlx-")


def test_targets_that_cut_rows_alike_share_a_bank(setup: Setup) -> None:
    # rows of 64 and 128
    digest = recipe_of(setup).digest
    assert recipe_of(asked_for(setup, "mlx")).digest == digest
    groups = setup.model.groups
    wide = tuple(replace(x, in_features=96) for x in groups[0].linears)
    model = replace(setup.model, groups=(replace(groups[0], linears=wide), *groups[1:]))
    other = replace(asked_for(setup, "mlx"), model=model)
    assert recipe_of(replace(setup, model=model)).digest == digest
    # in three groups of 32 there, and else in one
    assert recipe_of(other).digest != digest


def test_another_kind_of_device_makes_another_study_and_another_bank(
    setup: Setup,
) -> None:
    assert setup.arithmetic == "cpu/float32"
    # what tiny-llava is stored in
    there = replace(setup, device="cuda:0")
    assert there.arithmetic == "cuda/float16"
    assert there.study != setup.study
    assert recipe_of(there).digest != recipe_of(setup).digest
    # which of several makes no difference
    beside = replace(setup, device="cuda:1")
    assert (beside.study, beside.arithmetic) == (there.study, there.arithmetic)
    assert recipe_of(beside).digest == recipe_of(there).digest


def test_another_version_of_a_method_makes_another_study(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = setup.study
    monkeypatch.setattr("quant.methods.awq.Awq.version", 1000)
    assert replace(setup).study != before


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Setup:
    """A setup of tiny-llava with its weights as bfloat16."""
    folder = tmp_path_factory.mktemp("models") / "brain"
    shutil.copytree(HERE / "tiny-llava", folder)
    file = folder / "model.safetensors"
    tensors = {name: x.bfloat16() for name, x in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    asked = StudySpec(
        "8",
        "vqav2",
        str(folder),
        data=str(drawn_world),
        methods=("uniform", "gptq"),
        widths=(4, 16),
        calibration=4,
    )
    with homes(tmp_path_factory.mktemp("homes"), drawn_world):
        return prepare(asked)


def test_scales_have_the_type_of_the_checkpoint(setup: Setup, brain: Setup) -> None:
    assert setup.scheme.scales == "float16"
    assert brain.scheme.scales == "bfloat16"
    assert replace(brain, device="cuda").arithmetic == "cuda/bfloat16"
    # whatever that is, in a file of llama.cpp
    there = replace(brain.asked, group_size=32, symmetric=True, target="llama.cpp")
    assert replace(brain, asked=there).scheme.scales == "float16"
    recipe = recipe_of(brain)
    assert replace(recipe, scheme=brain.asked.scheme).digest != recipe.digest


def test_a_bank_stores_the_scales_that_a_checkpoint_will_have(
    brain: Setup, tmp_path: Path, drawn_world: Path
) -> None:
    with homes(tmp_path, drawn_world):
        bank = open_bank(brain, Silent())
        low = [choice for choice in brain.space.choices if choice.method]
        assert low
        for linear in brain.model.linears:
            for choice in low:
                assert bank.cell(linear, choice).scale.dtype == torch.bfloat16
        manifest = read_manifest(bank.folder)
    assert (manifest["scales"], manifest["arithmetic"]) == ("bfloat16", "cpu/float32")


def test_other_weights_or_other_answers_make_another_study(setup: Setup) -> None:
    assert replace(setup, weights="other").study != setup.study
    first = setup.samples["search"][0]
    changed = (replace(first, references=("x",) * 10), *setup.samples["search"][1:])
    samples = {**setup.samples, "search": changed}
    assert replace(setup, samples=samples).study != setup.study


def moved(setup: Setup, folder: Path) -> Setup:
    """The setup with copies of two of its pictures in a folder."""
    folder.mkdir()
    first, second, *others = setup.samples["search"]
    copies = [
        replace(sample, image=Path(shutil.copy(sample.image, folder / f"{n}.jpg")))
        for n, sample in enumerate((first, second))
    ]
    return replace(setup, samples={**setup.samples, "search": (*copies, *others)})


def test_a_study_is_of_what_pictures_show_and_not_of_where_they_lie(
    setup: Setup, tmp_path: Path
) -> None:
    elsewhere = moved(setup, tmp_path / "elsewhere")
    assert elsewhere.identity == setup.identity
    file = elsewhere.samples["search"][0].image
    os.utime(file, (0, 0))
    assert replace(elsewhere).identity == setup.identity
    # another picture of as many bytes
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert replace(elsewhere).identity != setup.identity


def test_a_bank_is_of_what_calibrates_it(setup: Setup, tmp_path: Path) -> None:
    samples = {**setup.samples, "calibration": setup.samples["search"][:4]}
    calibrated = moved(replace(setup, samples=samples), tmp_path / "elsewhere")
    calibrated = replace(
        calibrated, samples={"calibration": calibrated.samples["search"][:4]}
    )
    before = recipe_of(replace(setup, samples=samples)).digest
    assert recipe_of(calibrated).digest == before
    file = calibrated.samples["calibration"][1].image
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert recipe_of(calibrated).digest != before


def test_a_picture_seen_upright_is_another_sample(setup: Setup) -> None:
    first, *others = setup.samples["search"]
    turned = {**setup.samples, "search": (replace(first, upright=True), *others)}
    assert replace(setup, samples=turned).identity != setup.identity


def test_a_picture_that_is_gone_is_named(setup: Setup, tmp_path: Path) -> None:
    elsewhere = moved(setup, tmp_path / "elsewhere")
    elsewhere.samples["search"][1].image.unlink()
    with pytest.raises(DataError, match=r"elsewhere/1\.jpg cannot be read: No such"):
        _ = elsewhere.study


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return shutil.copytree(HERE / "tiny-llava", tmp_path / "model")


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "generation_config.json", "processor_config.json"),
        *("tokenizer.json", "tokenizer_config.json", "prompts.json"),
        *("preprocessor_config.json", "special_tokens_map.json", "tokenizer.model"),
        *("chat_template.jinja", "additional_chat_templates/tool_use.jinja"),
    ],
)
def test_whatever_is_read_of_a_checkpoint_makes_it_another(
    name: str, model: Path
) -> None:
    contents = Contents()
    before, file = weights_digest(model, contents), model / name
    file.parent.mkdir(exist_ok=True)
    # as many bytes as before, where it was there
    held = file.read_bytes() if file.exists() else b"{} "
    file.write_bytes(held[:-1] + b"\t")
    assert weights_digest(model, contents) != before


def test_another_weight_makes_another_checkpoint(model: Path) -> None:
    file, contents = model / "model.safetensors", Contents()
    before, held = weights_digest(model, contents), bytearray(file.read_bytes())
    held[-1] ^= 1
    file.write_bytes(held)
    assert weights_digest(model, contents) != before


def test_what_is_put_beside_a_checkpoint_leaves_it_the_same(model: Path) -> None:
    contents = Contents()
    before = weights_digest(model, contents)
    for name in ("plan.json", "README.md", "trainer_state.json", "notes.txt"):
        (model / name).write_text("{}")
    for name in ("finalized", "retrieval", "checkpoint-500"):
        shutil.copytree(HERE / "tiny-llava", model / name)
    assert weights_digest(model, contents) == before
    shutil.copytree(model, model.parent / "copied")
    assert weights_digest(model.parent / "copied", contents) == before


def test_a_study_is_named_by_letters_digits_and_dashes(setup: Setup) -> None:
    asked = replace(setup.asked, model="./models/my model (1)")
    assert replace(setup, asked=asked).study.startswith("my-model-1-vqav2-")


def test_the_samples_are_as_many_as_the_world_draws(setup: Setup) -> None:
    sizes = {split: len(samples) for split, samples in setup.samples.items()}
    assert sizes == {"calibration": 128, "search": 1000, "evaluation": 2000}


def test_a_task_that_ranks_is_asked_of_the_retrieval_twin(tmp_path: Path) -> None:
    task = task_of("flickr30k")
    folder, family = model_for(task, HERE / "tiny-blip2", "tiny-blip2")
    assert folder == HERE / "tiny-blip2" / "retrieval"
    assert family.gives(folder) == "ranking"
    # one that replies, of the model itself; and a retrieval model is its own twin
    assert model_for(task_of("coco"), HERE / "tiny-blip2", "m")[0].name == "tiny-blip2"
    shutil.copytree(folder, tmp_path / "alone")
    assert model_for(task, tmp_path / "alone", "m")[0] == tmp_path / "alone"
    with pytest.raises(SpecError, match=r"coco needs a reply .* m gives a ranking"):
        model_for(task_of("coco"), tmp_path / "alone", "m")


def test_the_embedded_twin_ranks_fewer_again_unless_asked(setup: Setup) -> None:
    assert setup.rerank == 16
    assert replace(setup, asked=replace(setup.asked, rerank=5)).rerank == 5
    own = replace(setup.asked, model="./models/mine")
    assert replace(setup, asked=own).rerank == 128


def test_calibration_of_several_tasks_is_as_much_as_of_one(
    tmp_path: Path, drawn_world: Path
) -> None:
    with homes(tmp_path, drawn_world):
        asked = StudySpec("4.0", "vqav2+coco+gqa", model="tiny-llava", calibration=60)
        samples = read_samples(asked, task_of(asked.task))
    counts = Counter(sample.id.split(":")[0] for sample in samples["calibration"])
    assert counts == {"vqav2": 20, "coco": 20, "gqa": 20}


def test_candidates_are_read_before_anything_is_drawn_or_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = StudySpec("4.0", "vqav2", model="tiny-llava", candidates=("nowhere",))
    with pytest.raises(SpecError, match="there is no plan file nowhere"):
        prepare(asked)
    assert not (tmp_path / "cache").exists()


def test_a_setup_has_the_candidates_and_is_of_the_same_study(
    setup: Setup, tmp_path: Path, drawn_world: Path
) -> None:
    file = tmp_path / "evo.txt"
    file.write_text("".join(f"{x.name}: 2\n" for x in setup.model.linears))
    asked = replace(setup.asked, candidates=(str(file),))
    with homes(tmp_path / "homes", drawn_world):
        found = prepare(asked)
    uniform = Allocation.uniform(setup.model, Choice(2, "gptq"))
    assert found.candidates == ((str(file), uniform),)
    assert found.study == setup.study
