"""Qwen-VL beyond the contract: its processor, its published sizes, its refusals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from allocator.core.plugins import load
from allocator.core.ports import Decoding, Sample
from allocator.families._pipeline import Pipeline
from tests.families.processors import (
    check_lengths,
    check_pixels,
    padding,
    save_processor,
)
from tests.states import logits_of, made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model

QWEN: Family = load("allocator.families", "qwen_vl")
SPECIAL = {
    "<|endoftext|>": 0,
    "<|im_end|>": 2,
    "<|im_start|>": 3,
    "<|image_pad|>": 4,
    "<|video_pad|>": 5,
    "<|vision_start|>": 60,
    "<|vision_end|>": 61,
}
WORDS = (
    "system user assistant You are a helpful . What is this ? How many "
    "Answer the question using single word or phrase Provide one - sentence caption"
)
# what the published template makes of a conversation with pictures
TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message.role }}\n"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_parts(folder: Path) -> None:
    """Tokenizer, picture processor and template, in the files of the published ones."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
        Qwen2VLImageProcessorPil,
    )

    free = [n for n in range(64) if n not in SPECIAL.values()]
    words = dict(zip([*WORDS.split(), *map(str, range(64))], free, strict=False))
    tokens = Tokenizer(models.WordLevel({**SPECIAL, **words}, unk_token="?"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=list(SPECIAL),
    )
    pictures = Qwen2VLImageProcessorPil(
        patch_size=4, min_pixels=8 * 8, max_pixels=64 * 64
    )
    save_processor(folder, tokenizer, pictures, {}, "")
    # where published checkpoints have it that are older than the file of its own
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))


@pytest.fixture(params=QWEN.variants)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    made(QWEN, folder, request.param)
    save_parts(folder)
    return QWEN.load(folder, "cpu")


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    sizes = {"a": (16, 32), "b": (24, 8)}
    for number, (name, size) in enumerate(sizes.items()):
        Image.effect_noise(size, 50 + number).convert("RGB").save(
            tmp_path / f"{name}.png"
        )
    asked = {"a": "What is this?", "b": "How many?"}
    return [
        Sample(name, tmp_path / f"{name}.png", "vqa", text, ("one", "one", "a"))
        for name, text in asked.items()
    ]


def replies(model: Model, samples: list[Sample], decoding: Decoding) -> list[str]:
    with torch.inference_mode():
        state = prefixed(model, model.inputs(samples))
        return model.predict([state], samples, decoding, lambda _: None)


def test_pictures_and_questions_become_a_batch_padded_on_the_left(
    model: Model, samples: list[Sample]
) -> None:
    state = model.inputs(samples)
    check_lengths(model, samples, state)
    check_pixels(model, samples, state)
    # patches of 4 x 4 pixels, four of them to a token
    assert state["image_grid_thw"].tolist() == [[1, 8, 4], [1, 2, 6]]
    assert state["pixel_values"].shape == (32 + 12, 3 * 2 * 4 * 4)
    shown = state["input_ids"] == SPECIAL["<|image_pad|>"]
    assert shown.sum(1).tolist() == [8, 3]
    assert torch.equal(state["mm_token_type_ids"].bool(), shown)
    # five image tokens less, two words less ("What is this ?", "How many ?")
    missing = 8 - 3 + 4 - 3
    assert padding(state) == [0, missing]
    wanted = (
        "<|im_start|>system You are a helpful assistant . <|im_end|> <|im_start|>user "
        "<|vision_start|> <|image_pad|> <|image_pad|> <|image_pad|> <|vision_end|> "
        "How many ? Answer the question using a single word or phrase . <|im_end|> "
        "<|im_start|>assistant"
    )
    found = model.processor.tokenizer.decode(state["input_ids"][1][missing:])
    assert found.replace(" ", "") == wanted.replace(" ", "")


@pytest.mark.parametrize("beams", [1, 3])
def test_replies_do_not_depend_on_what_else_is_in_the_batch(
    model: Model, samples: list[Sample], beams: int
) -> None:
    decoding = Decoding(5, beams)
    together = replies(model, samples, decoding)
    alone = [replies(model, [sample], decoding)[0] for sample in samples]
    assert together == alone
    asked = model.inputs(samples)
    generated = model.module.generate(
        **asked, max_new_tokens=5, num_beams=beams, do_sample=False
    )
    decode = model.processor.tokenizer.batch_decode
    new = generated[:, asked["input_ids"].shape[1] :]
    assert together == [t.strip() for t in decode(new, skip_special_tokens=True)]
    assert any(together)


def test_an_answer_stands_right_behind_the_prompt(
    model: Model, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pipeline, "processed", lambda _, __, texts: {"texts": texts})
    texts = model.inputs(samples, answered=True)["texts"]
    assert all(text.endswith("<|im_start|>assistant\none") for text in texts)


@pytest.mark.parametrize("variant", ["2", "2.5"])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_checkpoint_with_the_published_names_is_read(
    variant: str, mapped: bool, tmp_path: Path
) -> None:
    """Those of the first releases, without the parts' common prefix."""
    state = made(QWEN, tmp_path, variant)
    wanted = logits_of(QWEN.load(tmp_path, "cpu"), state)
    file = tmp_path / "model.safetensors"
    renamed = {
        name.replace("model.language_model.", "model.").replace(
            "model.visual.", "visual."
        ): tensor
        for name, tensor in load_file(file).items()
    }
    save_file(renamed, file, {"format": "pt"})
    model = QWEN.load(tmp_path, "cpu", mapped=mapped)
    model.module.float()
    torch.testing.assert_close(logits_of(model, state), wanted, atol=1e-4, rtol=1e-4)
