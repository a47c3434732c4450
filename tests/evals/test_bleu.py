from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allocator.core.errors import DataError, ReplyError
from evals.bleu import corpus_bleu

Captions = list[list[str]]
PUBLISHED = "pycocoevalcap is not installed (the extra is called test)"

EXAMPLES = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
CAPTION = st.lists(st.sampled_from("abcde"), max_size=9)
IMAGES = st.lists(
    st.tuples(st.lists(CAPTION, min_size=1, max_size=4), CAPTION),
    min_size=1,
    max_size=6,
)


def words(text: str) -> list[str]:
    return text.split()


def divide(images: list[tuple[Captions, list[str]]]) -> tuple[Captions, list[Captions]]:
    return [reply for _, reply in images], [own for own, _ in images]


def published(
    candidates: Captions, references: list[Captions], order: int = 4
) -> tuple[float, ...]:
    known = {i: [" ".join(each) for each in own] for i, own in enumerate(references)}
    replies = {i: [" ".join(each)] for i, each in enumerate(candidates)}
    package = pytest.importorskip("pycocoevalcap.bleu.bleu", reason=PUBLISHED)
    scores, _ = package.Bleu(order).compute_score(known, replies, verbose=0)
    return tuple(scores)


@EXAMPLES
@given(IMAGES, st.integers(1, 4))
def test_random_captions_score_as_published(images: Any, order: int) -> None:
    candidates, references = divide(images)
    found = corpus_bleu(candidates, references, order)
    assert found == pytest.approx(published(candidates, references, order), abs=1e-9)
    assert len(found) == order


@pytest.mark.parametrize(
    "candidate",
    [
        [],
        ["cat"],
        ["unheard"],
        ["cat"] * 40,
        ["quite", "another", "thing"],
        words("a cat sits on the mat"),
    ],
)
def test_degenerate_captions_score_as_published(candidate: list[str]) -> None:
    references = [[words("a cat sits on the mat"), ["cat"], []], [[]]]
    candidates = [candidate, candidate]
    expected = published(candidates, references)
    assert corpus_bleu(candidates, references) == pytest.approx(expected, abs=1e-9)


def test_the_score_is_as_worked_out_by_hand() -> None:
    candidate = words("the the the cat")
    references = [words("the cat sat on the mat"), words("a cat")]
    # Unigrams: "the" counts twice of three times, "cat" once: 3 of 4. Bigrams: "the
    # cat", 1 of 3. Both references are two words away, so the shorter one counts, and a
    # longer candidate costs nothing.
    found = corpus_bleu([candidate], [references], order=2)
    assert found == pytest.approx((3 / 4, math.sqrt(3 / 4 / 3)), abs=1e-8)


def test_short_captions_pay_for_the_words_of_the_whole_corpus() -> None:
    references = [[list("abcdef")], [list("ghij")]]
    found = corpus_bleu([list("abc"), list("ghij")], references, order=1)
    # all are right; 7 words for 10
    assert found == pytest.approx((math.exp(1 - 10 / 7),), abs=1e-8)
    # a caption that is too long makes up for one that is too short: 10 words for 10
    found = corpus_bleu([list("abc"), list("ghijghi")], references, order=1)
    assert found == pytest.approx((7 / 10,), abs=1e-8)


def test_ngrams_count_as_often_as_in_the_reference_that_has_most() -> None:
    # twice in one reference and once in the other is twice, not three times
    found = corpus_bleu([["a"] * 4], [[["a", "a", "b", "c"], ["a"]]], order=1)
    assert found == pytest.approx((2 / 4,), abs=1e-8)


@EXAMPLES
@given(IMAGES)
def test_scores_lie_between_0_and_1(images: Any) -> None:
    assert all(0 <= score <= 1 for score in corpus_bleu(*divide(images)))


@EXAMPLES
@given(st.lists(st.lists(CAPTION, min_size=1, max_size=4), max_size=4))
def test_captions_as_in_a_reference_score_full_marks(references: Any) -> None:
    # without any 4-gram the published constants say 0
    references = [[list("abcd")], *references]
    found = corpus_bleu([own[-1] for own in references], references)
    assert found == pytest.approx((1.0,) * 4, abs=1e-8)


@EXAMPLES
@given(IMAGES, st.randoms(use_true_random=False))
def test_the_order_of_images_and_references_does_not_matter(
    images: Any, chance: Any
) -> None:
    shuffled = [
        (chance.sample(own, len(own)), reply)
        for own, reply in chance.sample(images, len(images))
    ]
    assert corpus_bleu(*divide(shuffled)) == corpus_bleu(*divide(images))


@EXAMPLES
@given(IMAGES, st.integers(1, 3))
def test_longer_ngrams_leave_the_scores_of_shorter_ones(
    images: Any, order: int
) -> None:
    candidates, references = divide(images)
    everything = corpus_bleu(candidates, references)
    assert corpus_bleu(candidates, references, order) == everything[:order]


@pytest.mark.parametrize(
    ("candidates", "references", "error", "message"),
    [
        ([], [], DataError, "without any reference"),
        ([["a"]], [[]], DataError, "image 0 has no reference"),
        ([["a"]], [["a cat"]], DataError, "references of image 0 are text"),
        ([["a"]] * 2, [[["a"]]], ReplyError, "got 2 captions for 1 images"),
        (["a cat"], [[["a"]]], ReplyError, "caption 0 is text"),
    ],
)
def test_captions_that_do_not_fit_are_refused(
    candidates: Any, references: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        corpus_bleu(candidates, references)
