"""Training pictures, cell labels and token segments, made once from a seed."""

from __future__ import annotations

import io
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
from models import BOS, EOS, IMAGE, PAD, PATCHES, QUERIES, WORDINGS
from PIL import Image

from evals.world.language import GQA, VQA, ask, captions
from evals.world.scene import COLOURS, PLACES, SHAPES, SIZES, draw_scene, jpeg

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from evals.world.scene import Scene

QUESTION_LENGTH, CAPTION_LENGTH, TEXT_LENGTH = 20, 36, 32
IGNORE = -100


@dataclass(frozen=True)
class Pool:
    """Everything a training step reads, by picture.

    pixels [n, 3, side, side] uint8; cells [n, 4, 3] (colour, shape, size; 0 is empty);
    questions and captions [n, k, length] token ids with the length of their prompt
    [n, k]; texts [n, 5, length] plain captions for retrieval.
    """

    pixels: torch.Tensor
    cells: torch.Tensor
    questions: torch.Tensor
    question_prompts: torch.Tensor
    captions: torch.Tensor
    caption_prompts: torch.Tensor
    texts: torch.Tensor


def prefix(name: str, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """Tokens before the question, image tokens included, as the processors lay them."""
    if name == "tiny-blip2":
        return [IMAGE] * QUERIES + [BOS]
    before = WORDINGS[name].vqa.split("<image>")[0]
    return tokenizer(before).input_ids + [IMAGE] * PATCHES


def _after(name: str, kind: str) -> str:
    return getattr(WORDINGS[name], kind).split("<image>")[-1]


def _segments(
    tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]], length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids [n, length] of prompt + reply + end, and prompt lengths [n]."""
    texts = sorted({text for pair in pairs for text in pair})
    known = dict(
        zip(texts, tokenizer(texts, add_special_tokens=False).input_ids, strict=True)
    )
    ids = np.full((len(pairs), length), PAD, dtype=np.int16)
    for row, (prompt, reply) in zip(ids, pairs, strict=True):
        tokens = [*known[prompt], *known[reply], EOS][:length]
        row[: len(tokens)] = tokens
    return ids, np.array([len(known[prompt]) for prompt, _ in pairs], dtype=np.int16)


def _cells(scene: Scene) -> np.ndarray:
    cells = np.zeros((len(PLACES), 3), dtype=np.int64)
    for thing in scene.things:
        cells[PLACES.index(thing.place)] = (
            list(COLOURS).index(thing.colour) + 1,
            SHAPES.index(thing.shape) + 1,
            list(SIZES).index(thing.size) + 1,
        )
    return cells


def make_pool(
    name: str, tokenizer: PreTrainedTokenizerFast, size: int, seed: int
) -> Pool:
    """Draw `size` scenes with eight VQA and four GQA questions each."""
    random = Random(f"train/{seed}")
    scenes = [draw_scene(random) for _ in range(size)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(jpeg(s)))) for s in scenes])
    asked = [
        ask(scene, random, kinds)
        for scene in scenes
        for kinds in (VQA,) * 8 + (GQA,) * 4
    ]
    told = [caption for scene in scenes for caption in captions(scene)]
    vqa = _after(name, "vqa")
    questions, question_prompts = _segments(
        tokenizer, [(vqa.format(q.text), q.answer) for q in asked], QUESTION_LENGTH
    )
    describe = _after(name, "caption")
    replies, caption_prompts = _segments(
        tokenizer, [(describe, text) for text in told], CAPTION_LENGTH
    )
    texts = _segments(tokenizer, [("<s>", text) for text in told], TEXT_LENGTH)[0]
    return Pool(
        torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.stack([_cells(scene) for scene in scenes])),
        torch.from_numpy(questions).view(size, 12, -1),
        torch.from_numpy(question_prompts).view(size, 12),
        torch.from_numpy(replies).view(size, 5, -1),
        torch.from_numpy(caption_prompts).view(size, 5),
        torch.from_numpy(texts).view(size, 5, -1),
    )


@dataclass(frozen=True)
class Packed:
    """Segments of a picture laid behind one shared prefix.

    ids, positions, labels [b, t]; mask [b, 1, t, t], additive: a token sees the prefix
    and what came before it in its own segment.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor


def pack(
    prefix_ids: list[int], segments: list[tuple[torch.Tensor, torch.Tensor]]
) -> Packed:
    """Lay segments, each ([b, length] ids, [b] prompt lengths), behind the prefix."""
    batch = segments[0][0].shape[0]
    start = len(prefix_ids)
    ids = [torch.tensor(prefix_ids).expand(batch, start)]
    owner, positions = [torch.zeros(start)], [torch.arange(start)]
    labels = [torch.full((batch, start), IGNORE)]
    for number, (tokens, prompts) in enumerate(segments, 1):
        used = int((tokens != PAD).sum(1).max())
        kept = tokens[:, :used].long()
        ids.append(kept)
        owner.append(torch.full((used,), float(number)))
        positions.append(start + torch.arange(used))
        reply = torch.arange(used)[None] >= prompts[:, None]
        labels.append(kept.masked_fill(~reply | (kept == PAD), IGNORE))
    owners = torch.cat(owner)
    seen = (owners[None] == 0) | (owners[None] == owners[:, None])
    mask = torch.zeros(len(owners), len(owners)).masked_fill(
        ~(seen & torch.ones_like(seen).tril()), torch.finfo(torch.float32).min
    )
    return Packed(
        torch.cat(ids, 1),
        torch.cat(positions).expand(batch, -1),
        torch.cat(labels, 1),
        mask.expand(batch, 1, -1, -1),
    )
