"""Names and files around the weights are those of published checkpoints."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from allocator.core.errors import ModelError
from allocator.core.plugins import load
from allocator.exporters import _hub
from allocator.exporters._hub import hub_of
from allocator.exporters._published import published_config
from allocator.families import family_of
from tests.exporters.models import KINDS, checkpoint_of, random_model
from tests.families.checkpoints import change
from tests.families.parts import PARTS
from tests.states import VARIANTS, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.exporters._checkpoint import Checkpoint

# names of tensors in published checkpoints, one of every part, with block 0
TOWER = "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight"
LANGUAGE = "language_model.model.layers.0.mlp.gate_proj.weight"
LLAVA = {TOWER, LANGUAGE, "language_model.model.embed_tokens.weight"}
QWEN = {
    "visual.blocks.0.attn.qkv.weight",
    "visual.merger.mlp.2.weight",
    "model.layers.0.self_attn.q_proj.bias",
    "model.embed_tokens.weight",
    "lm_head.weight",
}
SMOL = {
    "model.vision_model.encoder.layers.0.mlp.fc1.weight",
    "model.connector.modality_projection.proj.weight",
    "model.text_model.layers.0.self_attn.o_proj.weight",
    "lm_head.weight",
}
BLIP = {
    "query_tokens",
    "vision_model.encoder.layers.0.self_attn.qkv.weight",
    "qformer.encoder.layer.0.crossattention.attention.query.weight",
}
INTERN = {
    "vision_tower.encoder.layer.0.attention.q_proj.weight",
    "multi_modal_projector.layer_norm.weight",
    LANGUAGE,
}
NAMES: dict[str, set[str]] = {
    "llava-1.5": {*LLAVA, "language_model.lm_head.weight"},
    "llava-next": {*LLAVA, "image_newline", "multi_modal_projector.linear_1.bias"},
    "llava-onevision": {*LLAVA, "image_newline"},
    "gemma3-gemma3": {*LLAVA, "multi_modal_projector.mm_input_projection_weight"},
    "paligemma-1": {*LLAVA, "multi_modal_projector.linear.weight"},
    "paligemma-2": {*LLAVA, "multi_modal_projector.linear.weight"},
    "internvl-llama": INTERN,
    "internvl-qwen2": INTERN,
    "internvl-qwen3": INTERN,
    "qwen_vl-2": {*QWEN, "visual.blocks.0.mlp.fc1.weight"},
    "qwen_vl-2.5": {*QWEN, "visual.blocks.0.mlp.gate_proj.weight"},
    "qwen_vl-3": {
        "model.visual.deepstack_merger_list.0.linear_fc1.weight",
        "model.visual.pos_embed.weight",
        "model.language_model.layers.0.self_attn.q_proj.weight",
    },
    "smolvlm-idefics3": SMOL,
    "smolvlm-smolvlm": SMOL,
    "blip2-opt": {*BLIP, "language_model.model.decoder.layers.0.fc1.weight"},
    "blip2-t5": {*BLIP, "language_model.lm_head.weight"},
    "blip2-retrieval": {*BLIP, "itm_head.weight"},
}


def written(checkpoint: Checkpoint, out: Path) -> None:
    """A plain checkpoint with a hub's names: an export without codes."""
    hub = hub_of(checkpoint)
    out.mkdir()
    hub.copy(out)
    tensors = dict(checkpoint.rest())
    for name in checkpoint.low:
        tensors[f"{name}.weight"] = checkpoint.weight(name).to(checkpoint.dtype)
    stored = {hub.keys[name]: value.contiguous() for name, value in tensors.items()}
    save_file(stored, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(hub.config))


def check_loaded(checkpoint: Checkpoint, out: Path) -> None:
    """transformers finds every tensor, and the values that were written."""
    kind = type(checkpoint.model.module)
    module, told = kind.from_pretrained(
        out, dtype=checkpoint.dtype, output_loading_info=True
    )
    assert not any(told.values()), told
    # tied ones by every name
    found = module.state_dict()
    for name, value in checkpoint.rest():
        assert torch.equal(found[name], value), name
    for name in checkpoint.low:
        wanted = checkpoint.weight(name).to(checkpoint.dtype)
        assert torch.equal(found[f"{name}.weight"], wanted), name


@pytest.fixture(params=[x for x in VARIANTS if "-".join(x) in NAMES], ids="-".join)
def variant(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A family's model as transformers 5 saves it, with all files."""
    family, name = request.param
    folder = tmp_path / "model"
    made(load("allocator.families", family), folder, name)
    PARTS[family](folder, name)
    return f"{family}-{name}", folder


def test_what_transformers_5_saved_is_written_as_published_and_read(
    variant: tuple[str, Path], tmp_path: Path
) -> None:
    title, folder = variant
    checkpoint = checkpoint_of(folder, (4, 16))
    written(checkpoint, tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert NAMES[title] <= set(file.keys())
    assert "rope_parameters" not in (tmp_path / "out" / "config.json").read_text()
    check_loaded(checkpoint, tmp_path / "out")
    if title == "smolvlm-smolvlm" and find_spec("num2words") is None:
        return
    model = family_of(tmp_path / "out").load(tmp_path / "out", "cpu")
    assert type(model.processor) is type(checkpoint.model.processor)


@pytest.mark.parametrize("kind", KINDS)
def test_both_forms_are_written_alike(kind: str, tmp_path: Path) -> None:
    random_model(tmp_path / "hub", kind, 128, "hub")
    random_model(tmp_path / "new", kind, 128, "transformers5")
    published, new = (hub_of(checkpoint_of(tmp_path / f)) for f in ("hub", "new"))
    assert new.keys == published.keys
    with safe_open(tmp_path / "hub" / "model.safetensors", "pt") as file:
        assert set(published.keys.values()) == set(file.keys())
    new.config.pop("transformers_version")
    published.config.pop("transformers_version")
    assert new.config == published.config
    source = json.loads((tmp_path / "hub" / "config.json").read_text())
    source.pop("transformers_version")
    if kind == "qwen3-vl":
        source["text_config"]["tie_word_embeddings"] = True
    assert published.config == {**source, "dtype": "float16"}


def test_a_configuration_names_the_type_of_the_scales(tmp_path: Path) -> None:
    random_model(tmp_path, "llava", 128, dtype=torch.bfloat16)
    change(tmp_path / "config.json", text_config={"torch_dtype": "float32"})
    config: dict[str, Any] = {"text_config": {"torch_dtype": "float32"}}
    _hub._type_(config, "bfloat16")
    assert config == {
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
        "text_config": {"torch_dtype": "bfloat16"},
    }


def test_files_are_all_that_loading_reads(tmp_path: Path) -> None:
    random_model(tmp_path / "model", "qwen2.5-vl", 128)
    (tmp_path / "model" / "README.md").write_text("mine")
    extra = tmp_path / "model" / "additional_chat_templates" / "tool.jinja"
    extra.parent.mkdir()
    extra.write_text("{{ messages }}")
    config = tmp_path / "model" / "generation_config.json"
    # as caches of downloads keep them
    config.rename(tmp_path / "blob")
    config.symlink_to(tmp_path / "blob")
    written(checkpoint_of(tmp_path / "model"), tmp_path / "out")
    found = {
        file.relative_to(tmp_path / "out").as_posix(): file
        for file in (tmp_path / "out").rglob("*")
        if file.is_file()
    }
    assert set(found) == {
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "preprocessor_config.json",
        "video_preprocessor_config.json",
        "chat_template.json",
        "additional_chat_templates/tool.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert not any(file.is_symlink() for file in found.values())
    assert found["generation_config.json"].read_text() == config.read_text()


def _tied(folder: Path, *, stored: tuple[str, ...], said: bool | None) -> Checkpoint:
    """A LLaVA whose head equals its embeddings, with some of the two stored."""
    random_model(folder, "llava", 128)
    file = folder / "model.safetensors"
    weights = load_file(file)
    found = {name: weights.pop(name) for name in (HEAD, EMBEDDINGS)}
    weights |= {name: found[EMBEDDINGS].clone() for name in stored}
    save_file(weights, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    for part in (config, config["text_config"]):
        part.pop("tie_word_embeddings", None)
        part.update({} if said is None else {"tie_word_embeddings": said})
    (folder / "config.json").write_text(json.dumps(config))
    return checkpoint_of(folder, (8,))


HEAD = "language_model.lm_head.weight"
EMBEDDINGS = "language_model.model.embed_tokens.weight"


@pytest.mark.parametrize(
    ("stored", "said", "key"),
    [
        ((EMBEDDINGS,), True, EMBEDDINGS),
        ((HEAD,), True, HEAD),
        ((HEAD, EMBEDDINGS), True, EMBEDDINGS),
        # equal, and nothing says that they are one
        ((HEAD, EMBEDDINGS), False, EMBEDDINGS),
        ((HEAD, EMBEDDINGS), None, EMBEDDINGS),
    ],
)
def test_a_tied_head_is_stored_once_and_said_to_be(
    stored: tuple[str, ...], said: bool | None, key: str, tmp_path: Path
) -> None:
    checkpoint = _tied(tmp_path / "model", stored=stored, said=said)
    hub = hub_of(checkpoint)
    # under both of its names
    assert [k for k in hub.keys.values() if k in (HEAD, EMBEDDINGS)] == [key, key]
    assert hub.keys["lm_head.weight"] == key
    assert hub.config["tie_word_embeddings"] is True
    assert hub.config["text_config"]["tie_word_embeddings"] is True
    written(checkpoint, tmp_path / "out")
    check_loaded(checkpoint, tmp_path / "out")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["a.q", "a.k"], "is made of a.q, a.k"),
        (["a.qkv (converted)"], r"is made of a.qkv \(converted\)"),
        ([], "has no tensor of its own"),
    ],
)
def test_a_linear_that_is_stored_in_parts_is_refused_by_name(
    keys: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model(tmp_path, "qwen3-vl", 128)
    name = "model.language_model.layers.0.self_attn.q_proj"
    usual = _hub.stored_keys

    def parts(*given: Any) -> dict[str, list[str]]:
        found = usual(*given)
        del found[f"{name}.weight"]
        return found | ({f"{name}.weight": keys} if keys else {})

    monkeypatch.setattr(_hub, "stored_keys", parts)
    with pytest.raises(ModelError, match=f"the quantized linear {name} {said}"):
        hub_of(checkpoint_of(tmp_path))


def test_a_converter_of_transformers_counts_as_parts(tmp_path: Path) -> None:
    from transformers import conversion_mapping
    from transformers.core_model_loading import Chunk, WeightConverter

    random_model(tmp_path, "qwen3-vl", 128)
    module = checkpoint_of(tmp_path).model.module
    split = WeightConverter(
        "self_attn.qk.weight",
        ["self_attn.q_proj.weight", "self_attn.k_proj.weight"],
        operations=[Chunk(dim=0)],
    )
    path = "model.language_model.layers.0.self_attn"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            conversion_mapping, "get_model_conversion_mapping", lambda _: [split]
        )
        found = _hub.stored_keys(module, [f"{path}.qk.weight", f"{path}.v_proj.weight"])
    assert found == {
        f"{path}.q_proj.weight": [f"{path}.qk.weight (converted)"],
        f"{path}.v_proj.weight": [f"{path}.v_proj.weight"],
    }


def test_two_tensors_that_are_published_as_one_are_refused(tmp_path: Path) -> None:
    random_model(tmp_path, "llava", 128)
    made = checkpoint_of(tmp_path)
    usual = _hub.stored_keys
    taken = ["vision_tower.pre_layrnorm.weight"]

    def clash(*given: Any) -> dict[str, list[str]]:
        return usual(*given) | {"model.vision_tower.post_layernorm.weight": taken}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_hub, "stored_keys", clash)
        with pytest.raises(ModelError, match="both are published as vision_tower"):
            hub_of(made)


def test_a_layout_that_transformers_reads_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random_model(tmp_path, "llava", 128)
    usual = published_config

    def other(config: dict[str, Any]) -> dict[str, Any]:
        found = usual(config)
        found["text_config"]["rope_theta"] = 7.0
        return found

    monkeypatch.setattr(_hub, "published_config", other)
    with pytest.raises(ModelError, match=r"rope_theta 10000\.0 would be read as 7\.0"):
        hub_of(checkpoint_of(tmp_path))
