from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allocator.core.errors import DataError, ReplyError
from evals.recall import image_ranks, recall_at, text_ranks

EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)
NAN = math.nan
KS = (1, 5, 10)


def retrieval(seed: int, levels: int | None = None) -> tuple[Any, Any, Any]:
    """Scores of images and of captions, and owners; with few levels many scores tie."""
    rng = np.random.default_rng(seed)
    n_images = int(rng.integers(1, 30))
    extra = rng.integers(0, n_images, size=int(rng.integers(0, 60)))
    owners = rng.permutation(np.concatenate([np.arange(n_images), extra]))
    shape = (n_images, len(owners))
    if levels is None:
        return rng.normal(size=shape), rng.normal(size=shape[::-1]), owners
    both = rng.integers(0, levels, (2, *shape)).astype(float)
    both[rng.random(both.shape) < 0.1] = NAN
    return both[0], both[1].T, owners


def published(scores: Any, right: list[set[int]]) -> list[int]:
    """Place of the best right answer by the sorting of LAVIS."""
    ranks = []
    for row, answers in zip(scores, right, strict=True):
        order = np.argsort(row)[::-1].tolist()
        ranks.append(min(order.index(each) for each in answers))
    return ranks


def worst(scores: Any, right: list[set[int]]) -> list[int]:
    """The same, a wrong answer first wherever one may stand there, and NaN last."""
    ranks = []
    for row, answers in zip(scores, right, strict=True):
        values = [(True, 0.0) if math.isnan(v) else (False, -v) for v in row]
        best = min(values[each] for each in answers)
        wrong = [value for i, value in enumerate(values) if i not in answers]
        ranks.append(sum(value <= best for value in wrong))
    return ranks


def captions_of(owners: Any, n_images: int) -> list[set[int]]:
    return [set(np.flatnonzero(owners == image).tolist()) for image in range(n_images)]


@EXAMPLES
@given(st.integers(0, 10_000))
def test_scores_that_differ_rank_as_published(seed: int) -> None:
    of_images, of_captions, owners = retrieval(seed)
    right = captions_of(owners, len(of_images))
    assert text_ranks(of_images, owners).tolist() == published(of_images, right)
    right = [{owner} for owner in owners.tolist()]
    assert image_ranks(of_captions, owners).tolist() == published(of_captions, right)


@EXAMPLES
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_scores_that_tie_or_are_no_numbers_rank_at_their_worst(
    seed: int, levels: int
) -> None:
    of_images, of_captions, owners = retrieval(seed, levels)
    right = captions_of(owners, len(of_images))
    assert text_ranks(of_images, owners).tolist() == worst(of_images, right)
    right = [{owner} for owner in owners.tolist()]
    assert image_ranks(of_captions, owners).tolist() == worst(of_captions, right)


def test_ranks_are_as_counted_by_hand() -> None:
    owners = [0, 0, 1, 1]
    scores = [
        # 0.9 is first, whatever its other caption gets
        [0.1, 0.9, 0.8, 0.7],
        # 0.5 is behind 0.8 and 0.6
        [0.8, 0.6, 0.5, 0.2],
    ]
    assert text_ranks(scores, owners).tolist() == [0, 2]
    scores = [[0.9, 0.1], [0.2, 0.3], [0.4, 0.5], [0.7, 0.6]]
    assert image_ranks(scores, owners).tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("same", [0.0, -100.0, math.inf, -math.inf, NAN])
def test_a_model_that_says_the_same_of_everything_finds_nothing(same: float) -> None:
    owners = np.repeat(np.arange(20), 5)
    of_images, of_captions = np.full((20, 100), same), np.full((100, 20), same)
    texts, images = text_ranks(of_images, owners), image_ranks(of_captions, owners)
    # behind the 95 captions of other images, and the 19 other images
    assert set(texts.tolist()) == {95}
    assert set(images.tolist()) == {19}
    assert [recall_at(ranks, k) for ranks in (texts, images) for k in KS] == [0] * 6


def test_what_is_not_a_number_stands_behind_the_lowest_number() -> None:
    # LAVIS would put it first
    assert published([[NAN, 0.5, 0.1]], [{0}]) == [0]
    assert image_ranks([[NAN, 0.5, -math.inf]], [0]).tolist() == [2]
    assert image_ranks([[-math.inf, 0.5, NAN]], [0]).tolist() == [1]
    scores = [[NAN, -1.0, 0.5, NAN], [NAN, 0.5, NAN, NAN]]
    # the number among the own captions counts; without one both others are before it
    assert text_ranks(scores, [0, 0, 1, 1]).tolist() == [1, 2]


def test_own_captions_never_stand_in_each_other_s_way() -> None:
    assert text_ranks([[0.5, 0.5, 0.4], [0, 0, 1]], [0, 0, 1]).tolist() == [0, 0]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int64"])
def test_every_kind_of_number_ranks_alike(kind: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 50, (8, 24)).astype(kind)
    owners = np.repeat(np.arange(8), 3)
    expected = text_ranks(scores.astype(float), owners)
    assert text_ranks(scores, owners).tolist() == expected.tolist()
    assert text_ranks(scores.tolist(), owners.tolist()).tolist() == expected.tolist()


@EXAMPLES
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_the_order_of_captions_and_of_images_does_not_matter(
    seed: int, levels: int
) -> None:
    of_images, of_captions, owners = retrieval(seed, levels)
    rng = np.random.default_rng(seed)
    captions = rng.permutation(len(owners))
    images = rng.permutation(len(of_images))
    moved = np.argsort(images)[owners[captions]]
    ranks = text_ranks(of_images[np.ix_(images, captions)], moved)
    assert ranks.tolist() == text_ranks(of_images, owners)[images].tolist()
    ranks = image_ranks(of_captions[np.ix_(captions, images)], moved)
    assert ranks.tolist() == image_ranks(of_captions, owners)[captions].tolist()


@EXAMPLES
@given(st.integers(0, 10_000))
def test_a_perfect_model_finds_everything(seed: int) -> None:
    of_images, of_captions, owners = retrieval(seed)
    mine = owners == np.arange(len(of_images))[:, None]
    assert recall_at(text_ranks(of_images + 100 * mine, owners), 1) == 100
    assert recall_at(image_ranks(of_captions + 100 * mine.T, owners), 1) == 100


@given(st.lists(st.integers(0, 20), min_size=1))
def test_recall_grows_with_k_up_to_all(ranks: list[int]) -> None:
    found = [recall_at(ranks, k) for k in range(1, 22)]
    assert found == sorted(found)
    assert found[0] >= 0
    assert found[-1] == 100


def test_recall_is_the_share_of_ranks_below_k() -> None:
    # 0, then 0 and 4, then all but the 10
    assert [recall_at([0, 4, 5, 10], k) for k in KS] == [25, 50, 75]


@pytest.mark.parametrize(
    ("scores", "owners", "error", "message"),
    [
        ([0.5, 0.1], [0, 1], ReplyError, r"shape \[2\]"),
        ([[0.5, 0.1]], [0, 0, 0], ReplyError, "of 2 captions for 3 captions"),
        ([[0.5, 0.1]], [0, 1], DataError, "of image 1, of 1 images"),
        ([[0.5, 0.1]], [0, -1], DataError, "of image -1"),
        ([[0.5, 0.1], [0.1, 0.5]], [0, 0], DataError, "image 1 has no caption"),
        ([[]], [], ReplyError, "0 captions"),
    ],
)
def test_scores_of_other_captions_are_refused(
    scores: Any, owners: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        text_ranks(scores, owners)


@pytest.mark.parametrize(
    ("scores", "owners", "error", "message"),
    [
        ([0.5], [0], ReplyError, r"shape \[1\]"),
        ([[0.5, 0.1]], [0, 1], ReplyError, "of 1 captions for 2 captions"),
        ([[0.5, 0.1]], [2], DataError, "of image 2, of 2 images"),
    ],
)
def test_scores_of_other_images_are_refused(
    scores: Any, owners: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        image_ranks(scores, owners)


def test_no_ranks_have_no_recall() -> None:
    with pytest.raises(ReplyError, match="not defined"):
        recall_at([], 1)
