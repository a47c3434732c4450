"""Processors built from nothing, and pictures of two shapes to show to them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image, ImageOps

from allocator.core.ports import Decoding, Sample
from tests.families.checkpoints import change
from tests.states import logits_of, prefixed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.ports import Model, State

# what processors make of texts alone
TEXTS = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")
# number 4 is the image token of every tiny model
IMAGE_AT = 4
WORDS = ("user", "assistant", "what", "colour", "is", "this", "answer", "the", "red")


def word_tokenizer(image: str, special: Sequence[str], **settings: Any) -> Any:
    """A tokenizer that splits at spaces and marks; unknown words are <unk>."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<unk>", "<s>", "</s>", image, *special]
    vocabulary = {word: number for number, word in enumerate([*names, *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Split(Regex(r"\s+|[.:?]"), "removed")
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="</s>",
        **settings,
    )
    made.add_tokens([image, *special], special_tokens=True)
    return made


def start_with_bos(tokenizer: Any) -> Any:
    """Let a tokenizer put its first token before every text."""
    from tokenizers.processors import TemplateProcessing

    first = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first[0]} $A", pair=f"{first[0]} $A $B", special_tokens=[first]
    )
    return tokenizer


def save_processor(
    folder: Path, tokenizer: Any, images: Any, settings: dict[str, Any], template: str
) -> None:
    """Save the parts of a processor in the files of published checkpoints.

    `settings` are those of processor_config.json. The picture processor goes by the
    name that is published, not by that of its Pillow variant.
    """
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    kind = type(images).__name__.removesuffix("Pil")
    change(folder / "preprocessor_config.json", image_processor_type=kind)
    (folder / "processor_config.json").write_text(json.dumps(settings))
    if template:
        (folder / "chat_template.jinja").write_text(template)


def two_samples(folder: Path) -> list[Sample]:
    """A square picture and one twice as wide, the second with the longer question."""
    samples = []
    asked = ("what colour", "what colour is this this this")
    for number, (size, text) in enumerate(
        zip(((40, 40), (64, 32)), asked, strict=True)
    ):
        file = folder / f"{number}.png"
        generator = torch.Generator().manual_seed(number)
        pixels = torch.randint(256, (size[1], size[0], 3), generator=generator)
        Image.fromarray(pixels.to(torch.uint8).numpy()).save(file)
        samples.append(Sample(str(number), file, "vqa", text, ("red", "red", "blue")))
    return samples


def padding(state: State) -> list[int]:
    """How many tokens of padding stand before each prompt; none stand elsewhere."""
    rows = state["attention_mask"].tolist()
    counts = [row.count(0) for row in rows]
    for row, count in zip(rows, counts, strict=True):
        assert row == [0] * count + [1] * (len(row) - count)
    return counts


def check_state(model: Model, state: State) -> None:
    """Its stages give what transformers gives, wherever there is a real token."""
    with torch.inference_mode():
        wanted = model.module(**state).logits
    seen = state["attention_mask"].bool()
    torch.testing.assert_close(logits_of(model, state)[seen], wanted[seen])


def check_beams(model: Model, state: State) -> None:
    """Three beams give the tokens that transformers gives, and leave features alone."""
    with torch.inference_mode():
        wanted = model.module.generate(
            **state, max_new_tokens=5, num_beams=3, do_sample=False
        )
        seen = prefixed(model, state)
        found = [model.reply_ids(seen, Decoding(5, beams=3)) for _ in range(2)]
    for each in found:
        assert torch.equal(each, wanted[:, state["input_ids"].shape[1] :])


def check_replies(model: Model, samples: Sequence[Sample], state: State) -> None:
    """One reply a sample, the same as that of transformers asked directly."""
    told: list[int] = []
    with torch.inference_mode():
        wanted = model.module.generate(**state, max_new_tokens=5, do_sample=False)
        seen = prefixed(model, state)
        replies = model.predict([seen], samples, Decoding(5), told.append)
    texts = model.processor.tokenizer.batch_decode(
        wanted[:, state["input_ids"].shape[1] :], skip_special_tokens=True
    )
    assert replies == [text.strip() for text in texts]
    assert told == [2]


def check_lengths(model: Model, samples: Sequence[Sample], state: State) -> None:
    """What is told of prompts before they are made, each from that of the other.

    transformers may count a token too few beside a picture in tiles, and SmolVLM's
    processor counts none: there all pictures pass for as long as the first.
    """
    tokens = state["attention_mask"].sum(1).tolist()
    if not hasattr(model.processor, "_get_num_multimodal_tokens"):
        assert model.lengths(samples[:1]) == tokens[:1]
        assert model.apart().lengths(samples[1:]) == tokens[1:]
        return
    assert model.lengths(samples) == pytest.approx(tokens, abs=1)
    assert model.apart().lengths(samples[::-1]) == pytest.approx(tokens[::-1], abs=1)


def check_pixels(model: Model, samples: Sequence[Sample], state: State) -> None:
    """Kept by picture they are what the processor makes of all at once.

    Two of one size and one of another, each of them of two batches.
    """
    third = replace(samples[1], image=samples[0].image.with_name("third.png"))
    shown = ImageOps.mirror(Image.open(samples[1].image))
    shown.save(third.image)
    samples = [*samples, third]
    for some in (samples, samples[::-1]):
        _check_pixels(model, some, model.inputs(some))
    _check_pixels(model, samples[:2], state)


def _check_pixels(model: Model, samples: Sequence[Sample], state: State) -> None:
    images = [[Image.open(each.image).convert("RGB")] for each in samples]
    wanted = model.processor(
        images=images,
        text=[model.worded(each) for each in samples],  # type: ignore[attr-defined]
        padding=True,
        return_tensors="pt",
    )
    seen = {key for key in wanted if key in state and key not in TEXTS}
    assert "pixel_values" in seen
    for key in seen:
        assert torch.equal(state[key], wanted[key]), key


def check_answers(model: Model, samples: Sequence[Sample]) -> None:
    """What transformers gives for the same inputs, in stages, replies and beams."""
    state = model.inputs(samples)
    check_lengths(model, samples, state)
    check_pixels(model, samples, state)
    check_state(model, state)
    check_state(model, model.inputs(samples, answered=True))
    check_replies(model, samples, state)
    check_beams(model, state)
