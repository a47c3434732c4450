"""One picture, many questions: tokens that run, time, and replies that change.

    python -m studies.scale.branching --questions 2000

Of the embedded models on VQAv2's evaluation split, in each type: tokens of the language
model with and without branches (those that its first linear reads), and replies that
differ. Then the same of a random LLaVA whose pictures take 576 tokens, asked 5.3 times
about each, 44 tokens of words around on average: VQAv2's mix.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.prepare import prepare
from allocator.core.plugins import load
from allocator.core.ports import Decoding
from allocator.core.study import StudySpec
from allocator.families._sharing import PICTURE
from allocator.families._tiny import IMAGE, SIZES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allocator.core.ports import Model, State

MODELS = ("tiny-blip2", "tiny-llava")
TYPES = (torch.float32, torch.bfloat16, torch.float16)
BATCH = 250
# VQAv2's validation set: 214,354 questions about 40,504 pictures
PICTURES = 10
# tokens of words in front of the picture, and behind it
FRONT, BEHIND = 5, (31, 47)


@dataclass(frozen=True)
class Ran:
    """Replies, tokens that the language model read for them, and seconds."""

    ids: list[list[int]]
    tokens: int
    seconds: float


@contextmanager
def whole_prompts(model: Any) -> Iterator[None]:
    """Let every prompt run from its beginning."""
    kind = type(model)
    own = kind.branches
    try:
        kind.branches = lambda *_: None
        yield
    finally:
        kind.branches = own


def run(model: Any, linear: str, states: Sequence[State], decoding: Decoding) -> Ran:
    """Reply to batches that have run up to the language model."""
    tokens = 0

    def count(_: Any, given: Any) -> None:
        nonlocal tokens
        tokens += given[0].shape[:-1].numel()

    hook = model.module.get_submodule(linear).register_forward_pre_hook(count)
    begun = time.process_time()
    ids = [row for state in states for row in model.reply_ids(state, decoding).tolist()]
    seconds = time.process_time() - begun
    hook.remove()
    return Ran(ids, tokens, seconds)


def compare(model: Any, linear: str, states: Sequence[State], tokens: int) -> str:
    """What branches change, in a line."""
    decoding = Decoding(tokens)
    found = run(model, linear, states, decoding)
    with whole_prompts(model):
        wanted = run(model, linear, states, decoding)
    ends = model.ends.ids

    def said(row: list[int]) -> list[int]:
        return row[: next((n for n, each in enumerate(row) if each in ends), len(row))]

    pairs = zip(found.ids, wanted.ids, strict=True)
    differ = sum(said(one) != said(other) for one, other in pairs)
    return (
        f"{wanted.tokens} -> {found.tokens} tokens "
        f"({wanted.tokens / found.tokens:.2f} x fewer), "
        f"{wanted.seconds:.2f} -> {found.seconds:.2f} s, "
        f"{differ} of {len(found.ids)} replies differ"
    )


def prefixed(model: Model, state: State) -> State:
    """A batch up to the language model, in the model's type."""
    dtype = next(model.module.parameters()).dtype
    state = {**state, "pixel_values": state["pixel_values"].to(dtype)}
    for stage in model.stages():
        if stage.component in model.prefix:
            state = stage.run(state)
    return state


def embedded(name: str, questions: int, say: Callable[[str], object]) -> None:
    """An embedded model on its evaluation split."""
    setup = prepare(StudySpec("16", "vqav2", model=name), ("evaluation",))
    samples = setup.samples["evaluation"][:questions]
    linear = next(x.name for x in setup.model.linears if x.component == "language")
    for dtype in TYPES:
        model: Any = setup.family.load(setup.folder, "cpu")
        model.module.to(dtype)
        batches = (samples[at : at + BATCH] for at in range(0, len(samples), BATCH))
        states = [prefixed(model, model.inputs(batch)) for batch in batches]
        say(f"{name} {dtype}: {compare(model, linear, states, 10)}")


def proportions(folder: Path, say: Callable[[str], object]) -> None:
    """A random LLaVA at the proportions of 1.5, narrow, on VQAv2's mix."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    torch.manual_seed(0)
    sizes = {**SIZES, "num_hidden_layers": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(image_size=336, patch_size=14, **SIZES),
        text_config=LlamaConfig(vocab_size=1000, max_position_embeddings=2048, **sizes),
        image_token_index=IMAGE,
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    linear = "model.language_model.layers.0.self_attn.q_proj"
    for dtype in TYPES:
        model = load("allocator.families", "llava").load(folder, "cpu")
        model.module.to(dtype)
        states = [prefixed(model, asked(random.Random(0)))]
        say(f"576 tokens a picture, {dtype}: {compare(model, linear, states, 3)}")


def asked(generator: random.Random) -> State:
    """Questions about pictures, as many words as VQAv2's, the pictures random."""
    picture = [n for n in range(PICTURES) for _ in range(5 + (n % 10 < 3))]
    front = [1, *range(10, 10 + FRONT - 1)]
    texts = [
        [*front, *[IMAGE] * 576, *(generator.randrange(20, 1000) for _ in range(words))]
        for words in (generator.randint(*BEHIND) for _ in picture)
    ]
    longest = max(map(len, texts))
    pad = [longest - len(text) for text in texts]
    return {
        "pixel_values": torch.randn(PICTURES, 3, 336, 336),
        "input_ids": torch.tensor(
            [[0] * n + text for n, text in zip(pad, texts, strict=True)]
        ),
        "attention_mask": torch.tensor([[0] * n + [1] * (longest - n) for n in pad]),
        PICTURE: torch.tensor(picture),
    }


@torch.inference_mode()
def main() -> None:
    """Print a line for each model and type."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=2000)
    questions = parser.parse_args().questions

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    for name in MODELS:
        embedded(name, questions, say)
    with TemporaryDirectory() as folder:
        proportions(Path(folder), say)


if __name__ == "__main__":
    main()
