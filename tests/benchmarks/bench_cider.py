"""Milliseconds to score captions by CIDEr-D, ours beside pycocoevalcap.

    python -m tests.benchmarks.bench_cider --images 5000

Medians of runs side by side in one process. Captions are random words of a Zipf
vocabulary, a third of the candidates with half a reference in them. "new" is the
references read by us, once per search; pycocoevalcap reads them at every score.
"""

from __future__ import annotations

import argparse
import random
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

from pycocoevalcap.cider.cider import Cider

from evals.cider import CiderD

if TYPE_CHECKING:
    from collections.abc import Callable

    Captions = list[list[str]]


def corpus(
    images: int, references: int, words: int, seed: int
) -> tuple[list[Captions], Captions]:
    """References and candidates, 7 to 15 words each, about as COCO has them."""
    chance = random.Random(seed)
    vocabulary = [f"word{number}" for number in range(words)]
    weights = [1 / (number + 1) for number in range(words)]

    def caption() -> list[str]:
        return chance.choices(vocabulary, weights, k=chance.randint(7, 15))

    known = [[caption() for _ in range(references)] for _ in range(images)]
    replies = [caption() for _ in range(images)]
    for number in range(0, images, 3):
        replies[number][:5] = known[number][0][:5]
    return known, replies


def milliseconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return 1000 * (perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--references", type=int, default=5)
    parser.add_argument("--words", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    known, replies = corpus(given.images, given.references, given.words, seed=0)
    texts = {i: [" ".join(each) for each in own] for i, own in enumerate(known)}
    answers = {i: [" ".join(each)] for i, each in enumerate(replies)}
    scorer = CiderD(known)
    runs: dict[str, Callable[[], object]] = {
        "new": lambda: CiderD(known),
        "score": lambda: scorer.score(replies),
        "published": lambda: Cider().compute_score(texts, answers),
    }
    _, expected = Cider().compute_score(texts, answers)
    found = scorer.score(replies)
    apart = max(abs(a - b) for a, b in zip(found, expected, strict=True))
    # one of each in turn, so that a slow moment of the machine hits all of them
    rounds = [
        {name: milliseconds(run) for name, run in runs.items()}
        for _ in range(given.repeats)
    ]
    print(f"{given.images} images x {given.references} references, median ms")
    for name in runs:
        times = [each[name] for each in rounds]
        print(f"{name:10}{median(times):9.1f}  ({min(times):.1f} to {max(times):.1f})")
    ratio = median(each["published"] / each["score"] for each in rounds)
    print(f"{ratio:.1f} times as fast, at most {apart:.1e} apart")


if __name__ == "__main__":
    main()
