"""Processors of the random models: tokenizer, picture processor, chat template."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

VOCABULARY, PATCH = 320, 14
# the last tokens; 0 to 255 are bytes, between them are pairs of letters
SPECIAL = {
    "llava": ("<pad>", "<s>", "</s>", "<image>"),
    "qwen": (
        *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>"),
        *("<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    ),
}
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}"
    "{% else %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def ids_of(kind: str) -> dict[str, int]:
    """Numbers of the special tokens."""
    names = SPECIAL["llava" if kind == "llava" else "qwen"]
    first = VOCABULARY - len(names)
    return {name: first + number for number, name in enumerate(names)}


def save_parts(folder: Path, kind: str) -> None:
    """Tokenizer, picture processor and template, in the files of published ones."""
    made = _tokenizer(kind)
    made.save_pretrained(folder)
    half = [0.5, 0.5, 0.5]
    pictures: dict[str, Any] = {"image_mean": half, "image_std": half}
    if kind == "llava":
        side = 4 * PATCH
        pictures |= {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"shortest_edge": side},
            "crop_size": {"height": side, "width": side},
            "processor_class": "LlavaProcessor",
        }
        settings = {
            "processor_class": "LlavaProcessor",
            "patch_size": PATCH,
            "vision_feature_select_strategy": "default",
            "num_additional_image_tokens": 1,
            "image_token": "<image>",
        }
        _write(folder / "processor_config.json", settings)
    else:
        qwen3 = kind == "qwen3-vl"
        pictures |= {
            "image_processor_type": "Qwen2VLImageProcessorFast",
            "size": {
                "shortest_edge": (2 * PATCH) ** 2,
                "longest_edge": (8 * PATCH) ** 2,
            },
            "patch_size": PATCH,
            "temporal_patch_size": 2,
            "merge_size": 2,
            "processor_class": "Qwen3VLProcessor" if qwen3 else "Qwen2_5_VLProcessor",
        }
        reader = "Qwen3VLVideoProcessor" if qwen3 else "Qwen2VLVideoProcessor"
        videos = {k: v for k, v in pictures.items() if k != "image_processor_type"}
        videos["video_processor_type"] = reader
        _write(folder / "video_preprocessor_config.json", videos)
    _write(folder / "preprocessor_config.json", pictures)
    template = LLAVA_TEMPLATE if kind == "llava" else QWEN_TEMPLATE
    _write(folder / "chat_template.json", {"chat_template": template})


def _write(file: Path, settings: dict[str, Any]) -> None:
    file.write_text(json.dumps(settings, indent=2))


def _tokenizer(kind: str) -> Any:
    """Bytes and pairs of letters: every text has tokens, and every token is a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ids_of(kind)
    letters = pre_tokenizers.ByteLevel.alphabet()
    first, second = "aeiou", "bcdfghlmnrstvw"
    pairs = [(a, b) for a in first for b in second]
    pairs = pairs[: VOCABULARY - 256 - len(special)]
    words = [*sorted(letters), *(a + b for a, b in pairs)]
    tokens = Tokenizer(
        models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=pairs)
    )
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens(list(special))
    names = (
        {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
        if kind == "llava"
        else {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokens, **names)
