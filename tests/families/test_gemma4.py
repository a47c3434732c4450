"""Gemma 4 beyond the contract: its processor, its sizes, what its blocks share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator.core.plugins import load
from tests.families.checkpoints import Published, check_sizes
from tests.families.processors import (
    check_answers,
    padding,
    save_processor,
    start_with_bos,
    two_samples,
    word_tokenizer,
)
from tests.states import logits_of, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model, State

GEMMA: Family = load("allocator.families", "gemma4")
# like the published one, it writes the first token itself
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|turn>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<|image|>' }}"
    "{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}"
    "{{ '<turn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|turn>model\n' }}{% endif %}"
)
# the fewest tokens that its processor makes of a picture
TOKENS = 70


def save_parts(folder: Path) -> None:
    """A processor that hears, too, as that of all published ones."""
    from transformers import Gemma4ImageProcessorPil

    roles = {
        "image_token": "<|image|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    }
    marks = [*roles.values(), "<|turn>", "<turn|>"][1:]
    words = start_with_bos(
        word_tokenizer("<|image|>", marks, bos_token="<s>", extra_special_tokens=roles)
    )
    pictures = Gemma4ImageProcessorPil(
        patch_size=4, pooling_kernel_size=2, max_soft_tokens=TOKENS
    )
    settings = {"processor_class": "Gemma4Processor", "image_seq_length": TOKENS}
    save_processor(folder, words, pictures, settings, TEMPLATE)


@pytest.fixture(params=GEMMA.variants)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    made(GEMMA, folder, request.param)
    save_parts(folder)
    return GEMMA.load(folder, "cpu")


def test_two_pictures_of_different_shapes_are_answered(
    model: Model, tmp_path: Path
) -> None:
    samples = two_samples(tmp_path)
    state = model.inputs(samples)
    shown = state["input_ids"] == 4
    # at most 280 patches of 4 x 4 pixels, in squares of 8: 8 x 8 of them, and 5 x 11
    assert shown.sum(1).tolist() == [64, 55]
    assert torch.equal(state["mm_token_type_ids"].bool(), shown)
    # "is this this this" is four words longer
    assert padding(state) == [0, 64 - 55 - 4]
    check_answers(model, samples)


def saved(folder: Path, variant: str) -> State:
    return made(GEMMA, folder, variant)


def test_a_stage_that_runs_twice_gives_the_same(tmp_path: Path) -> None:
    """What blocks leave for later ones is theirs alone, however often they run."""
    state = saved(tmp_path, "small")
    model = GEMMA.load(tmp_path, "cpu")
    left = []
    with torch.inference_mode():
        for stage in model.stages():
            first, second = stage.run(state), stage.run(state)
            for key in ("hidden", "logits"):
                if key in first:
                    assert torch.equal(first[key], second[key])
            state = first
            left.append(set(state.get("left", {}).get("shared_kv_states", {})))
    # of four blocks the first two leave theirs, each kind its own, until the head
    kinds = {"sliding_attention", "full_attention"}
    assert left[-6:] == [set(), {"sliding_attention"}, kinds, kinds, kinds, set()]


def test_no_stage_loads_the_side_that_hears(tmp_path: Path) -> None:
    saved(tmp_path, "small")
    model = GEMMA.load(tmp_path, "cpu")
    used = {name for stage in model.stages() for name in stage.uses}
    assert any("patch_embedder" in name for name in used)
    assert not any("audio" in name for name in used)


def test_linears_that_clip_by_their_own_bounds_share_nothing(tmp_path: Path) -> None:
    state = saved(tmp_path, "small")
    file = tmp_path / "model.safetensors"
    tensors, generator = load_file(file), torch.Generator().manual_seed(0)
    for name, value in tensors.items():
        if name.endswith(("_min", "_max")):
            bound = 0.5 + torch.rand((), generator=generator)
            tensors[name] = torch.where(value < 0, -bound, bound).half()
    save_file(tensors, file, {"format": "pt"})
    model = GEMMA.load(tmp_path, "cpu")
    with torch.inference_mode():
        wanted = model.module(**state).logits
    seen = state["attention_mask"].bool()
    torch.testing.assert_close(logits_of(model, state)[seen], wanted[seen])
    sets = [s for each in model.stages() for s in each.siblings]
    tower = [s for s in sets if "vision_tower" in s.names[0]]
    assert len(tower) == 2 * 7
    assert all(len(s.names) == 1 and s.fold is None for s in tower)


def test_keys_that_a_block_does_not_read_may_lie_in_a_file(tmp_path: Path) -> None:
    """Published files hold them for blocks that read those of earlier ones."""
    state = saved(tmp_path, "small")
    before = logits_of(GEMMA.load(tmp_path, "cpu"), state)
    spec = GEMMA.spec(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    for block, size in ((2, 16), (3, 32)):
        path = f"model.language_model.layers.{block}.self_attn"
        tensors[f"{path}.k_norm.weight"] = torch.ones(size).half()
        for name in ("k_proj", "v_proj"):
            tensors[f"{path}.{name}.weight"] = torch.ones(2 * size, 64).half()
    save_file(tensors, file, {"format": "pt"})
    assert GEMMA.spec(tmp_path) == spec
    for mapped in (True, False):
        model = GEMMA.load(tmp_path, "cpu", mapped=mapped)
        if not mapped:
            assert torch.equal(logits_of(model, state), before)


# google/gemma-4-E2B and -31B as transformers has them, and their sizes in public code
E2B: dict[str, Any] = {
    "model_type": "gemma4",
    "text_config": {
        "model_type": "gemma4_text",
        "hidden_size": 1536,
        "intermediate_size": 6144,
        "num_hidden_layers": 35,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "num_kv_shared_layers": 20,
        "use_double_wide_mlp": True,
        "layer_types": ([*["sliding_attention"] * 4, "full_attention"]) * 7,
        "final_logit_softcapping": 30.0,
    },
    "vision_config": {"model_type": "gemma4_vision", "use_clipped_linears": True},
    "audio_config": {"model_type": "gemma4_audio"},
}
LARGE_TOWER = {
    "model_type": "gemma4_vision",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 72,
    "standardize": True,
}
LARGE = {
    "model_type": "gemma4_text",
    "head_dim": 256,
    "global_head_dim": 512,
    "attention_k_eq_v": True,
    "hidden_size_per_layer_input": 0,
    "sliding_window": 1024,
    "final_logit_softcapping": 30.0,
    "use_bidirectional_attention": "vision",
}
DENSE = {
    "model_type": "gemma4",
    "text_config": {
        **LARGE,
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "num_hidden_layers": 60,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "num_global_key_value_heads": 4,
    },
    "vision_config": LARGE_TOWER,
    "audio_config": None,
}


def test_the_published_size_of_a_small_one_comes_from_its_configuration(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(E2B))
    spec = GEMMA.spec(tmp_path)
    # its file has keys, values and their norms of 20 blocks that read those of others,
    # four of them with heads of 512
    unread = 16 * (2 * 1536 * 256 + 256) + 4 * (2 * 1536 * 512 + 512)
    assert spec.parameters + unread == 5_123_178_979
    language = [x for x in spec.linears if x.component == "language"]
    # queries and outputs of all, keys and values of 15, three of them of 512
    attention = 2 * 1536 * (28 * 2048 + 7 * 4096 + 12 * 256 + 3 * 512)
    assert sum(x.weights for x in language if x.type == "attn") == attention
    # twice as wide where keys are shared; inputs of 256 for each block
    forward = 3 * 1536 * (15 * 6144 + 20 * 12288) + 35 * 2 * 1536 * 256
    assert sum(x.weights for x in language if x.type == "ff") == forward
    left = {each.name: each for each in spec.left_out}
    own = left["model.language_model.embed_tokens_per_layer"]
    assert own.weights == 262144 * 35 * 256


def test_the_published_size_of_a_large_one_comes_from_its_configuration(
    tmp_path: Path,
) -> None:
    # of ten blocks, whose keys are their values, heads are of 512
    attention = 50 * (2 * 8192 + 2 * 4096) + 10 * (2 * 16384 + 2048)
    published = Published(
        DENSE,
        31_273_088_876,
        {
            ("vision", "attn"): 27 * 4 * 1152**2,
            ("vision", "ff"): 27 * 3 * 1152 * 4304,
            ("connector", "all"): 1152 * 5376,
            ("language", "attn"): 5376 * attention,
            ("language", "ff"): 60 * 3 * 5376 * 21504,
        },
        ("model.vision_tower.patch_embedder.input_proj", "lm_head"),
    )
    check_sizes(GEMMA, published, tmp_path)


@pytest.mark.slow
def test_the_published_size_of_one_with_experts_comes_from_its_configuration(
    tmp_path: Path,
) -> None:
    # google/gemma-4-26B-A4B
    text = {
        **LARGE,
        "hidden_size": 2816,
        "intermediate_size": 2112,
        "num_hidden_layers": 30,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 2,
        "enable_moe_block": True,
        "num_experts": 128,
        "top_k_experts": 8,
        "moe_intermediate_size": 704,
    }
    config = {**DENSE, "text_config": text}
    attention = 25 * (2 * 4096 + 2 * 2048) + 5 * (2 * 8192 + 1024)
    routers = [f"model.language_model.layers.{n}.router.proj" for n in range(30)]
    published = Published(
        config,
        25_805_936_206,
        {
            ("vision", "attn"): 27 * 4 * 1152**2,
            ("vision", "ff"): 27 * 3 * 1152 * 4304,
            ("connector", "all"): 1152 * 2816,
            ("language", "attn"): 2816 * attention,
            # beside experts each block has a feed-forward part for every token
            ("language", "ff"): 30 * 3 * 2816 * (128 * 704 + 2112),
        },
        ("model.vision_tower.patch_embedder.input_proj", *routers, "lm_head"),
    )
    check_sizes(GEMMA, published, tmp_path)
    experts = [x for x in GEMMA.spec(tmp_path).linears if ".experts." in x.name]
    assert len(experts) == 30 * 128 * 2
