"""BLIP-2 for retrieval: its rankings are those of transformers, pair by pair."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from allocator.core.ports import Decoding, Ranked, Sample
from allocator.embedded import HERE
from allocator.families import _blip2_ranking
from allocator.families.blip2 import PLUGIN
from evals.tasks.flickr30k import PLUGIN as FLICKR30K
from evals.world.language import captions
from evals.world.scene import draw_scene, jpeg
from tests.families.checkpoints import change
from tests.families.processors import (
    save_processor,
    start_with_bos,
    two_samples,
    word_tokenizer,
)
from tests.states import logits_of, made, prefixed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from allocator.core.ports import Model, State

# three images with five texts of several lengths
TEXTS = (
    ("the red", "what colour is this this this"),
    ("red",),
    ("is this the answer", "user user assistant the colour red"),
)


@pytest.fixture(params=["with image tokens", "without"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    from transformers import BlipImageProcessor

    made(PLUGIN, tmp_path, "retrieval")
    tokenizer = start_with_bos(word_tokenizer("<image>", (), bos_token="<s>"))
    images = BlipImageProcessor(size={"height": 16, "width": 16})
    settings = {"processor_class": "Blip2Processor", "num_query_tokens": 4}
    save_processor(tmp_path, tokenizer, images, settings, "")
    if request.param == "without":
        change(tmp_path / "config.json", image_token_index=None)
    return PLUGIN.load(tmp_path, "cpu")


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    files = [sample.image for sample in two_samples(tmp_path)]
    # a third picture: the first, turned
    shown = [*files, tmp_path / "2.png"]
    with Image.open(files[0]) as image:
        image.rotate(90).save(shown[2])
    return [
        Sample(str(n), file, "match", "", texts)
        for n, (file, texts) in enumerate(zip(shown, TEXTS, strict=True))
    ]


def kept(model: Model, samples: list[Sample], size: int) -> Iterator[State]:
    """Batches as a search keeps them: the features of the images."""
    with torch.inference_mode():
        for start in range(0, len(samples), size):
            asked = model.inputs(samples[start : start + size])
            yield {**asked, "features": model.features(prefixed(model, asked))}


def ranked(
    model: Model, samples: list[Sample], rerank: int, size: int = 2
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores [images, texts] by image, and by text."""
    told: list[int] = []
    states = kept(model, samples, size)
    found: list[Ranked] = model.predict(
        states, samples, Decoding(1, rerank=rerank), told.append
    )
    assert told == list(range(1, len(samples) + 1))
    rows = [len(sample.references) for sample in samples]
    assert [np.shape(each.images) for each in found] == [
        (n, len(samples)) for n in rows
    ]
    by_image = np.stack([each.texts for each in found])
    by_text = np.concatenate([each.images for each in found]).T
    assert by_image.dtype == by_text.dtype == np.float32
    return by_image, by_text


def pair_by_pair(model: Model, samples: list[Sample], *, head: bool) -> torch.Tensor:
    """What transformers gives for an image and a text alone: [images, texts]."""
    texts = [text for sample in samples for text in sample.references]
    table = torch.empty(len(samples), len(texts))
    for i, sample in enumerate(samples):
        for j, text in enumerate(texts):
            pair = Sample("", sample.image, "match", "", (text,))
            with torch.inference_mode():
                given = model.module(
                    **model.inputs([pair]), use_image_text_matching_head=head
                )
            # of the head: no match, match
            table[i, j] = given.logits_per_image[0, int(head)]
    return table


@pytest.mark.parametrize("at_once", [1, 2, 128])
def test_every_pair_scores_what_transformers_gives(
    model: Model,
    samples: list[Sample],
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_blip2_ranking, "TEXTS", at_once)
    wanted = pair_by_pair(model, samples, head=False)
    wanted += pair_by_pair(model, samples, head=True)
    # more than there are is all of them
    for found in ranked(model, samples, rerank=128):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("rerank", [1, 2, 3, 4])
def test_only_the_best_by_cosine_are_scored_again(
    model: Model, samples: list[Sample], rerank: int
) -> None:
    cosine = pair_by_pair(model, samples, head=False)
    wanted = (cosine + pair_by_pair(model, samples, head=True)).numpy()
    by_image, by_text = ranked(model, samples, rerank)
    for found, scores, likes in (
        (by_image, wanted, cosine.numpy()),
        (by_text.T, wanted.T, cosine.numpy().T),
    ):
        for row, score, like in zip(found, scores, likes, strict=True):
            best = np.argsort(-like)[:rerank]
            expected = np.full_like(score, -100)
            expected[best] = score[best]
            np.testing.assert_allclose(row, expected, atol=1e-5)


def test_batches_of_images_make_no_difference(
    model: Model, samples: list[Sample]
) -> None:
    for one, all_ in zip(
        ranked(model, samples, 128, size=1),
        ranked(model, samples, 128, size=3),
        strict=True,
    ):
        np.testing.assert_allclose(one, all_, atol=1e-5)


def test_padding_behind_a_text_makes_no_difference(
    model: Model, samples: list[Sample]
) -> None:
    together = model.inputs(samples)
    assert together["attention_mask"][1, -1] == 0
    with torch.inference_mode():
        wanted = model.module(**together, use_image_text_matching_head=True)
        alone = [logits_of(model, model.inputs([sample])) for sample in samples]
    found = logits_of(model, together)
    torch.testing.assert_close(found, wanted.logits_per_image.unsqueeze(1))
    torch.testing.assert_close(found, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_it_reads_the_first_text_of_a_sample_and_no_more_than_35_tokens(
    model: Model, samples: list[Sample]
) -> None:
    long = Sample("", samples[0].image, "match", "", ("red " * 60, "blue"))
    state = model.inputs([long])
    image = 0 if model.module.config.image_token_index is None else 4
    assert state["input_ids"].shape == (1, image + 35)
    red = model.processor.tokenizer.convert_tokens_to_ids("red")
    assert state["input_ids"][0, image:].tolist() == [2, *[red] * 34]
    answered = model.inputs([long], answered=True)
    assert torch.equal(answered["input_ids"], state["input_ids"])


def drawn(folder: Path, count: int) -> list[Sample]:
    """Pictures of the drawn world, with five captions each."""
    random, found = Random("retrieval"), []
    for number in range(count):
        scene, file = draw_scene(random, 2), folder / f"{number}.jpg"
        file.write_bytes(jpeg(scene))
        said = tuple(captions(scene))
        found.append(Sample(str(number), file, "match", "", said))
    return found


def test_the_embedded_twin_finds_every_caption_and_every_picture(
    tmp_path: Path,
) -> None:
    folder = HERE / "tiny-blip2" / "retrieval"
    assert PLUGIN.gives(folder) == "ranking"
    model, samples = PLUGIN.load(folder, "cpu"), drawn(tmp_path, 12)
    states: Any = kept(model, samples, 5)
    found = model.predict(states, samples, Decoding(1, rerank=4), lambda _: None)
    score = FLICKR30K.score(found, samples)
    assert score.details["text recall@1"] == 100.0
    assert score.details["image recall@1"] == 100.0
