"""What a model folder's files may hold, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator.core.errors import ModelError
from allocator.embedded import HERE
from allocator.families import family_of, has_weights
from allocator.families._modules import running_type
from tests.families.checkpoints import change

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Tensors = dict[str, torch.Tensor]
HEAD = "language_model.lm_head.weight"
WORDS = "language_model.model.embed_tokens.weight"
DOWN = "language_model.model.layers.0.mlp.down_proj.weight"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(HERE / "tiny-llava", tmp_path / "model")
    return tmp_path / "model"


def edit(folder: Path, changed: Callable[[Tensors], object]) -> Tensors:
    tensors = load_file(folder / "model.safetensors")
    changed(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return tensors


def shard(folder: Path, count: int = 2) -> dict[str, str]:
    """The same weights in several files, with the index that lists them."""
    tensors = load_file(folder / "model.safetensors")
    names, listed = sorted(tensors), {}
    for part in range(count):
        file = f"model-{part + 1:05d}-of-{count:05d}.safetensors"
        own = names[part::count]
        save_file({name: tensors[name] for name in own}, folder / file)
        listed |= dict.fromkeys(own, file)
    (folder / INDEX).write_text(json.dumps({"weight_map": listed}))
    (folder / "model.safetensors").unlink()
    return listed


def refused(folder: Path, said: str) -> None:
    """Sizes and weights alike are refused, in the same words."""
    with pytest.raises(ModelError, match=said) as sizes:
        family_of(folder).spec(folder)
    with pytest.raises(ModelError, match=said) as weights:
        family_of(folder).load(folder, "cpu")
    assert str(sizes.value) == str(weights.value)
    assert "\n" not in str(sizes.value)


@pytest.mark.parametrize(
    "stored", [torch.float8_e5m2, torch.int8, torch.uint8, torch.int32, torch.bool]
)
def test_weights_that_are_no_floats_are_refused(
    stored: torch.dtype, folder: Path
) -> None:
    edit(folder, lambda t: t.update({DOWN: t[DOWN].to(stored)}))
    refused(folder, rf"stores tensor {DOWN} as .* quantized already.* dequantize")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{DOWN}_scale", "quantized already"),
        (f"{DOWN}_scale_inv", "quantized already"),
        (DOWN.replace(".weight", ".input_scale"), "quantized already"),
        (DOWN.replace(".weight", ".weight_zero_point"), "quantized already"),
        (DOWN.replace(".weight", ".bias"), "no such biases"),
        (DOWN.replace("layers.0", "layers.9"), "fewer blocks"),
        (f"base_model.model.{DOWN}", "merge the adapter"),
        (DOWN.replace(".weight", ".lora_A.default.weight"), "merge the adapter"),
        ("extra", "another model"),
    ],
)
def test_a_tensor_that_nothing_reads_is_named(
    name: str, said: str, folder: Path
) -> None:
    edit(folder, lambda t: t.update({name: torch.zeros(3)}))
    refused(folder, rf"stores tensor \S*{name.rpartition('.')[2]}, which .*{said}")


def test_fewer_blocks_than_the_file_holds_are_refused(folder: Path) -> None:
    text = json.loads((folder / "config.json").read_text())["text_config"]
    fewer = text["num_hidden_layers"] - 1
    change(folder / "config.json", text_config={**text, "num_hidden_layers": fewer})
    refused(folder, rf"stores 9 tensors: .*layers\.{fewer}\..*fewer blocks")


def test_names_that_belong_to_another_class_are_refused_both_ways(folder: Path) -> None:
    def renamed(tensors: Tensors) -> None:
        tensors["module." + DOWN] = tensors.pop(DOWN)

    edit(folder, renamed)
    refused(folder, r"module\.\S+, which .* while it lacks 1 weights, \S+down_proj")


@pytest.mark.parametrize(
    "name",
    [
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
        "vision_tower.vision_model.embeddings.position_ids",
        "model.rotary_emb.inv_freq",
    ],
)
def test_what_old_files_hold_beside_their_weights_is_harmless(
    name: str, folder: Path
) -> None:
    wanted = family_of(folder).spec(folder)
    edit(folder, lambda t: t.update({name: torch.arange(8)}))
    assert family_of(folder).spec(folder) == wanted
    family_of(folder).load(folder, "cpu")


@pytest.mark.parametrize(
    ("part", "key", "value", "said"),
    [
        (None, "quantization_config", {"quant_method": "modelopt"}, "of 'modelopt'"),
        (None, "quantization_config", {"bits": 4}, "a quantization_config:"),
        (None, "quantization", {"group_size": 64, "bits": 4}, "a quantization:"),
        (None, "compression_config", {"format": "x"}, "a compression_config:"),
        ("text_config", "quantization_config", {"bits": 4}, r"a text_config\.quant"),
    ],
)
def test_a_configuration_that_speaks_of_a_quantizer_is_refused(
    part: str | None, key: str, value: Any, said: str, folder: Path
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config)[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=said):
        family_of(folder)


@pytest.mark.parametrize("key", ["transformers_weights", "configuration_files"])
def test_a_configuration_that_leads_elsewhere_is_refused(
    key: str, folder: Path
) -> None:
    change(folder / "config.json", **{key: ["config.4.0.0.json"]})
    refused(folder, rf"has {key} .*take it out")


@pytest.mark.parametrize("value", [None, {}])
def test_an_empty_quantization_config_is_none(value: Any, folder: Path) -> None:
    change(folder / "config.json", quantization_config=value)
    family_of(folder).spec(folder)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf_quant_config.json", "quantized already"),
        ("quantize_config.json", "quantized already"),
        ("adapter_config.json", "holds an adapter .* merge"),
        ("adapter_model.safetensors", "holds an adapter .* merge"),
    ],
)
def test_files_of_quantizers_and_adapters_are_refused(
    name: str, said: str, folder: Path
) -> None:
    (folder / name).write_text("{}")
    with pytest.raises(ModelError, match=said):
        family_of(folder)


def test_an_adapter_alone_is_told_from_a_folder_of_something_else(
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelError, match=r"it has no config\.json$"):
        family_of(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"holds an adapter .* merge"):
        family_of(tmp_path)


def test_weights_in_several_files_are_those_of_one(folder: Path) -> None:
    family = family_of(folder)
    spec, one = family.spec(folder), family.load(folder, "cpu").module.state_dict()
    shard(folder)
    assert family.spec(folder) == spec
    several = family.load(folder, "cpu").module.state_dict()
    assert all(torch.equal(several[name], one[name]) for name in one)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model-00003-of-00003.safetensors"]
)
def test_stale_weights_beside_an_index_are_refused(name: str, folder: Path) -> None:
    shard(folder)
    save_file({DOWN: torch.zeros(48, 96)}, folder / name)
    refused(folder, rf"has {name} beside the weights that .*index")


def test_an_index_of_other_files_is_refused(folder: Path) -> None:
    listed = shard(folder)
    name, other = DOWN, {DOWN: next(f for f in listed.values() if f != listed[DOWN])}
    (folder / INDEX).write_text(json.dumps({"weight_map": {**listed, **other}}))
    refused(folder, rf"says that {other[name]} holds {name}, and it does not")


def test_a_tensor_in_two_files_is_refused(folder: Path) -> None:
    listed = shard(folder)
    other = folder / next(f for f in listed.values() if f != listed[DOWN])
    save_file({**load_file(other), DOWN: torch.zeros(48, 96)}, other)
    refused(folder, rf"has the tensor {DOWN} twice")


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"weight_map": {}}', '{"weight_map": []}', "\ufeff{"]
)
def test_an_index_that_lists_nothing_is_refused(text: str, folder: Path) -> None:
    (folder / INDEX).write_text(text)
    refused(folder, "lists no weights|cannot be read as JSON")


def test_an_index_names_no_file_outside_its_folder(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    refused(folder, r"lists '\.\./x\.safetensors', which is no file beside it")


def own_head(tensors: Tensors) -> None:
    tensors[HEAD] = tensors[WORDS] + 0.01


def test_a_head_of_its_own_counts_whatever_the_configuration_says(folder: Path) -> None:
    tied = family_of(folder).spec(folder)
    assert tied.tied
    tensors = edit(folder, own_head)
    found = family_of(folder).spec(folder)
    assert not found.tied
    assert found.parameters == sum(t.numel() for t in tensors.values())
    assert found.parameters == tied.parameters + tensors[HEAD].numel()
    module = family_of(folder).load(folder, "cpu").module
    assert torch.equal(module.lm_head.weight, tensors[HEAD].float())
    assert sum(p.numel() for p in module.parameters()) == found.parameters


@pytest.mark.parametrize("flag", [True, False, None])
def test_a_head_that_equals_the_embeddings_is_the_same_matrix(
    flag: bool | None, folder: Path
) -> None:
    tied = family_of(folder).spec(folder)
    edit(folder, lambda t: t.update({HEAD: t[WORDS].clone()}))
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"]):
        part.pop("tie_word_embeddings", None)
        if flag is not None:
            part["tie_word_embeddings"] = flag
    (folder / "config.json").write_text(json.dumps(config))
    assert family_of(folder).spec(folder) == tied
    for mapped in (True, False):
        module = family_of(folder).load(folder, "cpu", mapped=mapped).module
        assert module.lm_head.weight is module.get_input_embeddings().weight


def test_a_head_that_is_said_to_be_its_own_and_is_not_there_is_missed(
    folder: Path,
) -> None:
    config = json.loads((folder / "config.json").read_text())
    text = {**config["text_config"], "tie_word_embeddings": False}
    change(folder / "config.json", text_config=text, tie_word_embeddings=False)
    refused(folder, r"lacks 1 weights, lm_head\.weight .*tie_word_embeddings")


@pytest.mark.parametrize("stored", [True, False])
def test_an_index_without_its_files_says_whether_there_is_a_head(
    stored: bool, folder: Path
) -> None:
    with_head = edit(folder, own_head)
    listed = shard(folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    if not stored:
        listed.pop(HEAD)
        (folder / INDEX).write_text(json.dumps({"weight_map": listed}))
    assert not has_weights(folder)
    found = family_of(folder).spec(folder)
    assert found.tied is not stored
    assert found.parameters == sum(
        tensor.numel() for name, tensor in with_head.items() if stored or name != HEAD
    )


def test_each_weight_keeps_its_type_until_it_is_used(folder: Path) -> None:
    def one_is_wider(tensors: Tensors) -> None:
        tensors[DOWN] = tensors[DOWN].float()
        tensors[DOWN][0, 0] = 1e6

    edit(folder, one_is_wider)
    mapped = family_of(folder).load(folder, "cpu", mapped=True).module
    layer = mapped.model.language_model.layers[0].mlp
    assert layer.down_proj.weight.dtype == torch.float32
    assert layer.up_proj.weight.dtype == torch.float16
    assert float(layer.down_proj.weight[0, 0]) == 1e6
    loaded = family_of(folder).load(folder, "cpu").module
    for name, weight in mapped.named_parameters():
        assert torch.equal(weight.float(), loaded.get_parameter(name))


@pytest.mark.parametrize(("value", "wanted"), [(1.0, "float16"), (1e6, "float32")])
def test_an_accelerator_runs_a_type_that_every_weight_fits(
    value: float, wanted: str, folder: Path
) -> None:
    edit(folder, lambda t: t.update({DOWN: torch.full_like(t[DOWN].float(), value)}))
    assert running_type(folder) == wanted
