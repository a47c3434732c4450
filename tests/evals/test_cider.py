from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from allocator.core.errors import DataError, ReplyError
from evals.cider import CiderD

Captions = list[list[str]]
PUBLISHED = "pycocoevalcap is not installed (the extra is called test)"

EXAMPLES = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
CAPTION = st.lists(st.sampled_from("abcde"), max_size=9)
# x and y are in no reference
REPLY = st.lists(st.sampled_from("abcdexy"), max_size=9)
IMAGES = st.lists(
    st.tuples(st.lists(CAPTION, min_size=1, max_size=4), REPLY), min_size=1, max_size=6
)


def words(text: str) -> list[str]:
    return text.split()


def divide(images: list[tuple[Captions, list[str]]]) -> tuple[list[Captions], Captions]:
    return [own for own, _ in images], [reply for _, reply in images]


def published(references: list[Captions], candidates: Captions) -> tuple[float, Any]:
    """Mean and values of pycocoevalcap, which wants words with blanks between them."""
    numbered = enumerate(zip(references, candidates, strict=True))
    known, replies = {}, {}
    for number, (own, candidate) in numbered:
        known[number] = [" ".join(caption) for caption in own]
        replies[number] = [" ".join(candidate)]
    package = pytest.importorskip("pycocoevalcap.cider.cider", reason=PUBLISHED)
    mean, values = package.Cider().compute_score(known, replies)
    return float(mean), values


def assert_as_published(references: list[Captions], candidates: Captions) -> None:
    found = CiderD(references).score(candidates)
    mean, values = published(references, candidates)
    np.testing.assert_allclose(found, values, rtol=0, atol=1e-9)
    assert np.mean(found) == pytest.approx(mean, abs=1e-9)


@EXAMPLES
@given(IMAGES)
def test_random_captions_score_as_published(images: Any) -> None:
    references, candidates = divide(images)
    # the published code cannot do without any word
    assume(any(caption for own in references for caption in own))
    assert_as_published(references, candidates)


@pytest.mark.parametrize("size", [30, 3000])
def test_a_corpus_scores_as_published(size: int) -> None:
    rng = np.random.default_rng(size)
    vocabulary = [f"word{number}" for number in range(size)]
    chances = 1 / np.arange(1, size + 1)
    chances /= chances.sum()

    def caption() -> list[str]:
        return rng.choice(vocabulary, rng.integers(1, 16), p=chances).tolist()

    references = [[caption() for _ in range(rng.integers(1, 8))] for _ in range(200)]
    candidates = [own[0][:7] + caption()[:4] for own in references]
    assert_as_published(references, candidates)


@pytest.mark.parametrize(
    "candidate",
    [
        [],
        ["cat"],
        ["unheard"],
        ["cat"] * 40,
        ["a", "cat", "sits"] * 10,
        ["quite", "another", "thing"],
        ["mat", "the", "on", "sits", "cat", "a"],
        words("a cat sits on the mat"),
        [*words("a cat sits on the mat"), *["and"] * 50],
    ],
)
def test_degenerate_captions_score_as_published(candidate: list[str]) -> None:
    references = [
        [words("a cat sits on the mat"), words("the cat is on a mat"), ["cat"], []],
        [words("a dog runs"), words("the dog runs on the grass")],
        [["cat", "cat", "cat", "cat", "cat"]],
    ]
    assert_as_published(references, [candidate] * 3)


def test_the_score_of_two_images_is_as_worked_out_by_hand() -> None:
    scorer = CiderD([[["a", "cat"], ["the", "cat"]], [["a", "dog"]]])
    found = scorer.score([["a", "cat"], ["a", "dog"]])
    # "a" is in both images and weighs nothing, all others weigh log 2. To "a cat" the
    # cosine is 1 for unigrams (cat) and bigrams; to "the cat" it is 1 / sqrt(2) for
    # unigrams (cat against the, cat) and 0 for bigrams. No trigrams, no 4-grams.
    assert found[0] == pytest.approx(10 * (2 + 1 / math.sqrt(2)) / 4 / 2)
    # unigrams 1, bigrams 1, one reference
    assert found[1] == pytest.approx(10 * 2 / 4)


def test_repeats_are_clipped_and_another_length_costs() -> None:
    found = CiderD([[["cat"]], [["dog"]]]).score([["cat", "cat"], ["dog"]])
    # min(2, 1) x 1 / (2 x 1), one word more than the reference, sigma 6
    assert found[0] == pytest.approx(10 / 4 * 0.5 * math.exp(-1 / 72))
    assert found[1] == pytest.approx(10 / 4)


def test_a_rare_word_weighs_more_than_a_frequent_one() -> None:
    scorer = CiderD([[["red", "cat"]], [["red", "dog"]], [["bird"]]])
    red, cat, _ = (math.log(3 / 2), math.log(3 / 1), 0.0)
    [[frequent, *_], [rare, *_]] = (
        scorer.score([[word], [], []]) for word in ("red", "cat")
    )
    # unigrams only, and one word fewer than the reference
    scale = 10 / 4 * math.exp(-1 / 72) / math.hypot(red, cat)
    assert frequent == pytest.approx(scale * red)
    assert rare == pytest.approx(scale * cat)


def test_one_image_alone_scores_nothing() -> None:
    assert CiderD([[["a", "cat"]]]).score([["a", "cat"]]) == (0.0,)


def test_captions_without_any_word_score_nothing() -> None:
    assert CiderD([[[]], [[], []]]).score([["cat"], []]) == (0.0, 0.0)


@EXAMPLES
@given(IMAGES)
def test_scores_lie_between_0_and_10(images: Any) -> None:
    references, candidates = divide(images)
    assert all(0 <= s <= 10 + 1e-9 for s in CiderD(references).score(candidates))


@EXAMPLES
@given(IMAGES)
def test_nothing_beats_the_only_reference_itself(images: Any) -> None:
    references, candidates = divide([(own[:1], reply) for own, reply in images])
    scorer = CiderD(references)
    best = scorer.score([own[0] for own in references])
    others = scorer.score(candidates)
    assert all(b >= o - 1e-9 for b, o in zip(best, others, strict=True))


def test_four_distinctive_words_as_in_the_only_reference_score_full_marks() -> None:
    captions = [list("abcd"), list("efghi")]
    found = CiderD([[each] for each in captions]).score(captions)
    assert found == pytest.approx((10.0, 10.0))


@EXAMPLES
@given(IMAGES, st.randoms(use_true_random=False))
def test_the_order_of_images_and_references_does_not_matter(
    images: Any, chance: Any
) -> None:
    order = chance.sample(range(len(images)), len(images))
    references, candidates = divide(images)
    shuffled = [chance.sample(references[i], len(references[i])) for i in order]
    before = CiderD(references).score(candidates)
    after = CiderD(shuffled).score([candidates[i] for i in order])
    np.testing.assert_allclose(after, [before[i] for i in order], atol=1e-12)


@EXAMPLES
@given(IMAGES)
def test_an_unrelated_image_changes_the_weights_and_nothing_else(images: Any) -> None:
    # Each image has words of its own, so all n-grams weigh the same, before and after,
    # and a cosine does not see a common weight.
    assume(len(images) > 1)
    references, candidates = divide(images)
    references = [
        [[f"{word}{number}" for word in caption] for caption in own]
        for number, own in enumerate(references)
    ]
    candidates = [
        [f"{word}{number}" for word in caption]
        for number, caption in enumerate(candidates)
    ]
    few = CiderD(references).score(candidates)
    many = CiderD([*references, [["unrelated"]]]).score([*candidates, []])
    np.testing.assert_allclose(many[:-1], few, atol=1e-9)


def test_an_image_with_the_same_words_makes_them_weigh_less() -> None:
    references = [[["red", "cat"]], [["dog"]]]
    alone = CiderD(references).score([["red"], []])
    shared = CiderD([*references, [["red"]]]).score([["red"], [], []])
    assert shared[0] < alone[0]


def test_scoring_leaves_the_scorer_as_it_was() -> None:
    scorer = CiderD([[["a", "cat"]], [["a", "dog"]]])
    first = scorer.score([["new", "cat"], ["dog"]])
    scorer.score([["quite", "other"], ["words", "new", "cat"]])
    assert scorer.score([["new", "cat"], ["dog"]]) == first


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ([], "without any reference"),
        ([[["a"]], []], "image 1 has no reference"),
        ([[["a"]], ["a cat"]], "references of image 1 are text"),
        (["a cat"], "references of image 0 are text"),
    ],
)
def test_impossible_references_are_refused(references: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CiderD(references)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ([], "got 0 captions for 2 images"),
        ([["a"]] * 3, "got 3 captions for 2 images"),
        ([["a"], "a cat"], "caption 1 is text"),
    ],
)
def test_replies_that_do_not_fit_are_refused(candidates: Any, message: str) -> None:
    scorer = CiderD([[["a"]], [["b"]]])
    with pytest.raises(ReplyError, match=message):
        scorer.score(candidates)
