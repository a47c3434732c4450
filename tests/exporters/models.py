"""Random models with all files of a checkpoint, and what exporters are given of them.

Sizes are multiples of 128 and heads are 64 wide, so that every runtime takes them.
Files are those of published checkpoints ("hub": names of tensors and config.json as
transformers 4 wrote them) or those that transformers 5 writes ("transformers5").
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from allocator.core.allocation import FULL, Allocation, Choice, Scheme
from allocator.core.holding import fused
from allocator.core.ports import Sample
from allocator.core.targets import TARGETS
from allocator.exporters._checkpoint import Checkpoint
from allocator.families import family_of
from allocator.families._modules import scale_type
from quant.grid import round_to_nearest
from tests.exporters.parts import PATCH, VOCABULARY, ids_of, save_parts

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.spec import Granularity
    from quant.grid import Cell

Form = Literal["hub", "transformers5"]

KINDS = ("llava", "qwen2.5-vl", "qwen3-vl")
HEAD, BLOCKS = 64, 2


def random_model(
    folder: Path,
    kind: str,
    width: int = 256,
    form: Form = "hub",
    dtype: torch.dtype = torch.float16,
) -> None:
    """Save a random model of one of `KINDS` with processor, tokenizer and template.

    Args:
        folder: where to; it is made.
        kind: "llava", "qwen2.5-vl" or "qwen3-vl".
        width: of language model and tower, a multiple of 128.
        form: whose names of tensors and whose config.json.
        dtype: what its weights are stored in.
    """
    from allocator.families._checkpoint import quiet

    with quiet():
        config = CONFIGS[kind](width)
        torch.manual_seed(0)
        module = model_class(kind)(config)
        _randomize_(module)
        module.to(dtype).save_pretrained(folder)
    if form == "hub":
        _as_published(folder, kind)
    save_parts(folder, kind)


def model_class(kind: str) -> Any:
    import transformers

    names = {"llava": "Llava", "qwen2.5-vl": "Qwen2_5_VL", "qwen3-vl": "Qwen3VL"}
    return getattr(transformers, f"{names[kind]}ForConditionalGeneration")


def _randomize_(module: Any) -> None:
    """Move scales and biases away from 1 and 0, so that none can stand for another."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        if parameter.dim() == 1:
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.05 * noise


def _text(width: int, kv: int) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": width // HEAD,
        "num_key_value_heads": kv,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 2048,
        "initializer_range": 0.05,
    }


def _llava(width: int) -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    ids = ids_of("llava")
    tower = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=BLOCKS + 1,
        num_attention_heads=width // HEAD,
        image_size=4 * PATCH,
        patch_size=PATCH,
        projection_dim=width,
        initializer_range=0.05,
    )
    text = LlamaConfig(
        **_text(width, width // HEAD),
        bos_token_id=ids["<s>"],
        eos_token_id=ids["</s>"],
        pad_token_id=ids["<pad>"],
    )
    return LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=ids["<image>"],
        image_seq_length=16,
        vision_feature_layer=-2,
    )


def _qwen_tokens() -> dict[str, int]:
    ids = ids_of("qwen")
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def _qwen_text(width: int, **rope: Any) -> dict[str, Any]:
    ids = ids_of("qwen")
    # height and width get three eighths of a head's frequencies each
    sections = [HEAD // 8, 3 * HEAD // 16, 3 * HEAD // 16]
    kind = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    return {
        **_text(width, 2),
        "bos_token_id": ids["<|endoftext|>"],
        "eos_token_id": ids["<|im_end|>"],
        "rope_parameters": {**kind, **rope},
    }


def _qwen25(width: int) -> Any:
    from transformers import Qwen2_5_VLConfig

    tower = {
        "depth": BLOCKS + 1,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_heads": width // HEAD,
        "out_hidden_size": width,
        "patch_size": PATCH,
        "window_size": 4 * PATCH,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.05,
    }
    return Qwen2_5_VLConfig(
        vision_config=tower, text_config=_qwen_text(width), **_qwen_tokens()
    )


def _qwen3(width: int) -> Any:
    from transformers import Qwen3VLConfig

    tower = {
        "depth": BLOCKS + 1,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_heads": width // HEAD,
        "out_hidden_size": width,
        "patch_size": PATCH,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
        "initializer_range": 0.05,
    }
    text = {**_qwen_text(width, mrope_interleaved=True), "head_dim": HEAD}
    return Qwen3VLConfig(
        vision_config=tower,
        text_config=text,
        tie_word_embeddings=True,
        **_qwen_tokens(),
    )


CONFIGS = {"llava": _llava, "qwen2.5-vl": _qwen25, "qwen3-vl": _qwen3}


def _as_published(folder: Path, kind: str) -> None:
    """Give a checkpoint the names and the config.json that published ones have.

    As in llava-hf/llava-1.5-7b-hf, Qwen/Qwen2.5-VL-7B-Instruct and
    Qwen/Qwen3-VL-2B-Instruct.
    """
    file = folder / "model.safetensors"
    tensors = load_file(file)
    if kind == "llava":
        tower = ("vision_tower.", "vision_tower.vision_model.")
        tensors = {name.replace(*tower): value for name, value in tensors.items()}
        save_file(tensors, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    text, vision = config.pop("text_config"), config.pop("vision_config")
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    vision.pop("rope_parameters", None)
    dtype = config.pop("dtype")
    config |= {"torch_dtype": dtype, "transformers_version": "4.57.0"}
    if kind == "qwen2.5-vl":
        vision["model_type"] = "qwen2_5_vl"
        sections = {"type": "mrope", "mrope_section": rope["mrope_section"]}
        # the language model is not apart
        text.pop("model_type")
        config = {**text, **config, "rope_scaling": sections, "vision_config": vision}
    elif kind == "qwen3-vl":
        vision["model_type"] = "qwen3_vl"
        text["rope_scaling"] = rope
        config |= {"text_config": text, "vision_config": vision}
    else:
        config |= {"text_config": text, "vision_config": vision}
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def checkpoint_of(
    folder: Path,
    widths: Sequence[int] = (2, 3, 4, 5, 6, 8),
    *,
    allocation: Allocation | None = None,
    scheme: Scheme | None = None,
    granularity: Granularity = "block",
    include: Sequence[str] = (),
    samples: Sequence[Sample] = (),
) -> Checkpoint:
    """A folder's model with every group rounded to nearest.

    Args:
        folder: a checkpoint of any family.
        widths: what groups have in turn, in their order, where there is no allocation.
        allocation: widths of all groups.
        scheme: None: groups of 128, asymmetric, scales of the checkpoint's type.
        granularity: of the groups.
        include: "head", "embeddings": what else is in groups.
        samples: to compare logits on.
    """
    family = family_of(folder)
    spec = family.spec(folder, granularity, include)
    scheme = scheme or Scheme(scales=scale_type(folder))
    if allocation is None:
        turns = zip(spec.keys, cycle(widths), strict=False)
        chosen = {k: Choice(b, None if b == FULL else "uniform") for k, b in turns}
        allocation = Allocation.of(spec.keys, chosen)
    model = family.load(folder, "cpu", mapped=True)
    known = (spec, scheme, allocation, folder, model)
    return rounded(Checkpoint(*known, _unrounded, samples=tuple(samples)))


def _unrounded(name: str) -> Cell:
    raise AssertionError(name)


def with_exceptions(
    made: Checkpoint, widths: Sequence[int], rng: random.Random
) -> Checkpoint:
    """The same with other widths for a third of its linears, drawn by chance.

    What the target has as one matrix stays together.
    """
    target = TARGETS[made.scheme.target]
    fine = made.spec.by_linear(fused(made.spec, target))
    drawn = rng.sample(fine.keys, len(fine.keys) // 3)
    bits = {key: rng.choice(widths) for key in drawn}
    changes = {k: Choice(b, None if b == FULL else "uniform") for k, b in bits.items()}
    allocation = made.allocation.over(made.spec, fine).replace(changes)
    return rounded(replace(made, allocation=allocation.over(fine, made.spec)))


def rounded(made: Checkpoint) -> Checkpoint:
    """The same, its cells rounded to nearest by what its linears have now."""

    def cell(name: str) -> Cell:
        weight = made.model.module.get_submodule(name).weight.detach()
        return round_to_nearest(weight, made.scheme, made.low[name].bits)

    return replace(made, cell=cell)


def some_samples(folder: Path, count: int = 2) -> list[Sample]:
    """Questions about pictures of noise, which are written into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for number in range(count):
        file = folder / f"{number}.png"
        generator = torch.Generator().manual_seed(number)
        shape = (40, 40 + 8 * number, 3)
        pixels = torch.randint(256, shape, generator=generator).to(torch.uint8)
        Image.fromarray(pixels.numpy()).save(file)
        asked = f"what is this {number}?"
        samples.append(Sample(str(number), file, "vqa", asked, ("one", "two")))
    return samples
