"""LLaVAs of any size with random weights, which look at pictures and answer in words.

A processor is made with them, so they are checkpoints like any user's. Replies are as
short as those of VQAv2: a third of all tokens end one, unless none is to.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import product
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.ports import Sample
from quant.grid import round_to_nearest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.allocation import Scheme
    from quant.grid import Cell

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
IMAGE = SPECIAL.index("<image>")
# a token is up to three of these: real prompts have about a token every three letters
LETTERS = f"{ascii_lowercase} "
ENDING = 3
# so large that a reply depends on picture and question, not on the last token alone
SPREAD = 2.0
# VQAv2 has 5.4 questions a picture (arXiv 1612.00837); pictures of COCO are this large
QUESTIONS, PIXELS = 5.4, (640, 480)
ASKED = (
    "what colour is the {}",
    "how many {} are there in this picture",
    "is the {} on the left of the table",
    "where is the {}",
    "what is behind the {} in the back",
    "is there a {}",
)
THINGS = ("bus", "man", "umbrella", "cat", "red bicycle", "window", "plate", "sign")


@dataclass(frozen=True)
class Row:
    """A row of blocks: how many, how wide, how wide between, and its heads."""

    blocks: int
    width: int
    inner: int
    heads: int


@dataclass(frozen=True)
class Sizes:
    """A LLaVA's sizes: a tower for pictures of `side` pixels, and what reads it."""

    vision: Row
    language: Row
    side: int = 336
    patch: int = 14

    @property
    def image_tokens(self) -> int:
        """Tokens that stand for a picture."""
        return (self.side // self.patch) ** 2


# llava-hf/llava-1.5-7b-hf
SEVEN_B = Sizes(Row(24, 1024, 4096, 16), Row(32, 4096, 11008, 32))
# 0.3 B parameters, a twentieth of them in the tower, as there
MID = Sizes(Row(8, 384, 1536, 6), Row(19, 1024, 2752, 16))
SMALL = Sizes(Row(2, 32, 64, 2), Row(2, 64, 128, 4), side=28, patch=7)


def vocabulary() -> dict[str, int]:
    """Every token by its number."""
    words = ("".join(word) for n in (3, 2, 1) for word in product(LETTERS, repeat=n))
    return {word: number for number, word in enumerate((*SPECIAL, *words))}


def config_of(sizes: Sizes, *, rows: int) -> Any:
    """A LLaVA-1.5's configuration; `rows` are those of its embedding."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    def row(of: Row) -> dict[str, int]:
        return {
            "num_hidden_layers": of.blocks,
            "hidden_size": of.width,
            "intermediate_size": of.inner,
            "num_attention_heads": of.heads,
        }

    return LlavaConfig(
        vision_config=CLIPVisionConfig(
            image_size=sizes.side, patch_size=sizes.patch, **row(sizes.vision)
        ),
        text_config=LlamaConfig(
            vocab_size=rows,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            initializer_range=SPREAD * sizes.language.width**-0.5,
            **row(sizes.language),
        ),
        image_token_index=IMAGE,
        image_seq_length=sizes.image_tokens,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )


def save_llava(folder: Path, sizes: Sizes, *, dtype: str = "float16") -> None:
    """Save a LLaVA with random weights, and its processor."""
    make_llava(folder, sizes, dtype=dtype).save_pretrained(folder)


def make_llava(
    folder: Path,
    sizes: Sizes,
    *,
    dtype: str = "float16",
    device: str = "cpu",
    ends: bool = True,
) -> Any:
    """A LLaVA with random weights on a device; all but these is saved.

    Without `ends` its replies are as long as may be.
    """
    from transformers import LlavaForConditionalGeneration

    words = vocabulary()
    config = config_of(sizes, rows=len(words))
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            model = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(torch.float32)
    if ends:
        said = range(len(SPECIAL), len(words), ENDING)
        model.generation_config.eos_token_id = [2, *said]
    config.architectures, config.dtype = [type(model).__name__], dtype
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    _save_processor(folder, sizes, words)
    return model.eval().requires_grad_(False)


def _save_processor(folder: Path, sizes: Sizes, words: dict[str, int]) -> None:
    """A tokenizer of three letters a token, beside CLIP's image processor."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers
    from tokenizers.pre_tokenizers import Split
    from tokenizers.processors import TemplateProcessing
    from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast

    own = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    own.normalizer = normalizers.Lowercase()
    own.pre_tokenizer = Split(Regex("[a-z ]{1,3}|[^a-z ]"), "isolated")
    own.decoder = decoders.Fuse()
    own.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    named = dict(zip(("pad", "bos", "eos", "unk"), SPECIAL, strict=False))
    tokens = {f"{name}_token": token for name, token in named.items()}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, **tokens)
    tokenizer.add_tokens(list(SPECIAL), special_tokens=True)
    tokenizer.save_pretrained(folder)
    side = {"height": sizes.side, "width": sizes.side}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": sizes.side}, crop_size=side)
    pictures.save_pretrained(folder)
    file = folder / "preprocessor_config.json"
    # by the name that is published, not by that of its Pillow variant
    about = json.loads(file.read_text()) | {
        "image_processor_type": "CLIPImageProcessor"
    }
    file.write_text(json.dumps(about))
    settings = {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "patch_size": sizes.patch,
        "num_additional_image_tokens": 1,
        "vision_feature_select_strategy": "default",
    }
    (folder / "processor_config.json").write_text(json.dumps(settings))


def some_questions(folder: Path, pictures: int) -> list[Sample]:
    """Pictures as large as those of COCO, and as many questions of each as VQAv2 has.

    In an order that has nothing to do with the pictures, as a task's samples are.
    """
    chance = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    files = [_picture(folder / f"{number}.jpg", number) for number in range(pictures)]
    samples = []
    for number in range(round(QUESTIONS * pictures)):
        asked = ASKED[number // pictures % len(ASKED)].format(chance.choice(THINGS))
        file = files[number % pictures]
        samples.append(Sample(str(number), file, "vqa", f"{asked}?", ("yes",) * 10))
    chance.shuffle(samples)
    return samples


def _picture(file: Path, seed: int) -> Path:
    """Patches of colour, as a photograph that takes some decoding."""
    import numpy as np
    from PIL import Image

    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(PIXELS, Image.Resampling.BICUBIC).save(file)
    return file


class Stored:
    """Rounding, by a method whose cells are stored: a bank of any size in seconds."""

    version = 1

    def quantize(
        self,
        weights: Sequence[torch.Tensor],
        inputs: object,
        scheme: Scheme,
        widths: Sequence[int],
        *,
        foldable: bool = False,
    ) -> dict[int, list[Cell]]:
        """Cells of each width."""
        del inputs, foldable
        return {
            bits: [round_to_nearest(w.detach(), scheme, bits) for w in weights]
            for bits in widths
        }
