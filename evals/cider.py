"""CIDEr-D: how well a caption agrees with what people wrote about the same image.

Vedantam et al., "CIDEr: Consensus-based Image Description Evaluation" (CVPR 2015), as
cider_scorer.py in https://github.com/tylin/coco-caption (on PyPI: pycocoevalcap)
computes it. For n of 1 to 4, a caption is a vector of n-grams, each counted and
weighted by log(images / images with it in a reference). Two captions are as similar as

    sum over n-grams of min(candidate, reference) x reference / (norm x norm)
    x exp(-(difference in length)^2 / (2 x 6^2))

and the score of an image is ten times the mean over n and its references. Length is in
words; the published code counts bigrams, which differ as much. In a corpus of one image
every weight is 0, and so is every score.

A word is numbered, and an n-gram is the number of its first n - 1 words and its last
word, so all captions are scored at once by sorting and looking up integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from evals.bleu import check_candidates, check_references

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from evals.bleu import Caption

    Ints = NDArray[np.int64]
    Floats = NDArray[np.float64]

LONGEST = 4
SIGMA = 6.0
FACTOR = 10.0
# two numbers below 2**31 make one key
SHIFT = 32
LOWER = (1 << SHIFT) - 1


@dataclass(frozen=True, eq=False)
class Order:
    """The n-grams of one length in the references of a corpus.

    `keys` [grams] is sorted, and the place of a key in it is the number of its n-gram;
    `weight` [grams] is log(images / images with it). `places` [places] is sorted: the
    pairs of an image and an n-gram in its references. Those of place p are entries
    first[p] .. first[p + 1]: `caption` says in which reference, `entry` how often times
    `weight`. `norm` [captions] is the length of each reference as a vector.
    """

    keys: Ints
    weight: Floats
    places: Ints
    first: Ints
    caption: Ints
    entry: Floats
    norm: Floats


@dataclass(frozen=True, eq=False)
class Text:
    """Captions one after another: numbered `words` and the `owner` of each [words]."""

    words: Ints
    owner: Ints

    def extend(self, prefix: Ints, start: Ints, n: int) -> tuple[Ints, Ints]:
        """Make n-grams of the (n - 1)-grams that have a word behind them.

        Args:
            prefix: [(n - 1)-grams], their numbers.
            start: [(n - 1)-grams], their first words.
            n: at least 1.

        Returns:
            Keys and first words, both [n-grams].
        """
        last = start + n - 1
        fits = last < len(self.words)
        fits[fits] = self.owner[last[fits]] == self.owner[start[fits]]
        return prefix[fits] << SHIFT | self.words[last[fits]], start[fits]


class CiderD:
    """References of a corpus, ready to score any captions of its images.

    >>> scorer = CiderD([[["a", "cat"], ["the", "cat"]], [["a", "dog"]]])
    >>> [round(each, 3) for each in scorer.score([["a", "cat"], ["a", "dog"]])]
    [3.384, 5.0]
    """

    def __init__(self, references: Sequence[Sequence[Caption]]) -> None:
        """Count document frequencies and weigh the references.

        Args:
            references: per image, the tokens of at least one caption.

        Raises:
            DataError: there is no image, or an image has no reference, or text where
                tokens are expected.
        """
        check_references(references)
        self.n_images = len(references)
        captions = list(chain.from_iterable(references))
        self._n_own = np.array([len(own) for own in references])
        self._image = np.repeat(np.arange(self.n_images), self._n_own)
        self._length = _lengths(captions)
        unique = dict.fromkeys(chain.from_iterable(captions))
        self._vocabulary = {word: number for number, word in enumerate(unique)}
        self._orders = tuple(self._learn(captions))

    def score(self, candidates: Sequence[Caption]) -> tuple[float, ...]:
        """Score the tokens of one caption per image.

        Returns:
            One value per image, in order, 0 to 10. Their mean is the corpus score;
            tables of papers show it times 100.

        Raises:
            ReplyError: not one candidate per image, or text where tokens are expected.
        """
        check_candidates(candidates, self.n_images)
        similarity = np.zeros(len(self._image))
        text = _number(candidates, self._vocabulary)
        prefix, start = np.zeros_like(text.words), np.arange(len(text.words))
        for n, order in enumerate(self._orders, start=1):
            keys, start = text.extend(prefix, start, n)
            prefix = _look_up(order.keys, keys)
            similarity += self._similarity(order, prefix, text.owner[start])
        longer = _lengths(candidates)[self._image] - self._length
        similarity *= np.exp(-(longer**2) / (2 * SIGMA**2))
        total = np.bincount(self._image, similarity, minlength=self.n_images)
        scores: list[float] = (FACTOR / LONGEST * total / self._n_own).tolist()
        return tuple(scores)

    def _similarity(self, order: Order, grams: Ints, image: Ints) -> Floats:
        """Clipped cosine of each reference with the candidate of its image.

        Args:
            order: the n-grams of the references.
            grams: [n-grams] of all candidates.
            image: [n-grams], whose candidate has it.

        Returns:
            [captions].
        """
        pairs, counts = np.unique(image << SHIFT | grams, return_counts=True)
        owner, gram = pairs >> SHIFT, pairs & LOWER
        # n-grams past the end are in no reference, which counts as in one
        weights = np.append(order.weight, np.log(self.n_images))
        vector = counts * weights[np.minimum(gram, len(order.weight))]
        norm = np.sqrt(np.bincount(owner, vector**2, minlength=self.n_images))
        place, found = _find(order.places, pairs)
        place, mine = place[found], vector[found]
        # lay out the entries of all places that were found, one after another
        n_entries = order.first[place + 1] - order.first[place]
        ends = np.cumsum(n_entries)
        offset = np.repeat(order.first[place] - ends + n_entries, n_entries)
        entries = offset + np.arange(len(offset))
        theirs = order.entry[entries]
        products = np.minimum(np.repeat(mine, n_entries), theirs) * theirs
        n_captions = len(self._image)
        dots = np.bincount(order.caption[entries], products, minlength=n_captions)
        norms = norm[self._image] * order.norm
        return np.divide(dots, norms, out=np.zeros(n_captions), where=norms != 0)

    def _learn(self, captions: Sequence[Caption]) -> Iterator[Order]:
        text = _number(captions, self._vocabulary)
        prefix, start = np.zeros_like(text.words), np.arange(len(text.words))
        for n in range(1, LONGEST + 1):
            keys, start = text.extend(prefix, start, n)
            keys, prefix = np.unique(keys, return_inverse=True)
            yield self._weigh(keys, prefix, text.owner[start])

    def _weigh(self, keys: Ints, grams: Ints, caption: Ints) -> Order:
        """Count n-grams [n-grams] by image and by reference."""
        n_captions = len(self._image)
        pairs, counts = np.unique(caption << SHIFT | grams, return_counts=True)
        caption, gram = pairs >> SHIFT, pairs & LOWER
        by_image = self._image[caption] << SHIFT | gram
        sorting = np.argsort(by_image, kind="stable")
        places, first = np.unique(by_image[sorting], return_index=True)
        n_with = np.bincount(places & LOWER, minlength=len(keys))
        weight = np.log(self.n_images) - np.log(n_with)
        entry = counts * weight[gram]
        norm = np.sqrt(np.bincount(caption, entry**2, minlength=n_captions))
        return Order(
            keys=keys,
            weight=weight,
            places=places,
            first=np.append(first, len(pairs)),
            caption=caption[sorting],
            entry=entry[sorting],
            norm=norm,
        )


def _lengths(captions: Sequence[Caption]) -> Ints:
    return np.array([len(caption) for caption in captions], dtype=np.int64)


def _number(captions: Sequence[Caption], vocabulary: Mapping[str, int]) -> Text:
    """Number all words, those that the vocabulary lacks behind the others."""
    known = dict(vocabulary)
    words = [known.setdefault(w, len(known)) for w in chain.from_iterable(captions)]
    owner = np.repeat(np.arange(len(captions)), _lengths(captions))
    return Text(np.array(words, dtype=np.int64), owner)


def _look_up(keys: Ints, wanted: Ints) -> Ints:
    """Number n-grams by their place in `keys`, those it lacks behind all others."""
    place, found = _find(keys, wanted)
    _, number = np.unique(wanted[~found], return_inverse=True)
    place[~found] = len(keys) + number
    return place


def _find(keys: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Where in sorted keys something would be, and whether it is there."""
    place = np.searchsorted(keys, wanted)
    found = place < len(keys)
    found[found] = keys[place[found]] == wanted[found]
    return place, found
