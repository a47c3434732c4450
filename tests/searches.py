"""Searches without a model: what an allocation scores is a formula."""

from __future__ import annotations

import math
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import Budget, Choice, Scheme
from allocator.core.clock import Clock
from allocator.core.cost import Cost
from allocator.core.ports import Sample, Score
from allocator.core.records import LINEAR_RIVALS
from allocator.core.study import StudySpec
from allocator.search.linears import KEPT
from allocator.search.running import Search
from allocator.space.model import ModelSpace
from allocator.study.journal import ARITHMETIC, COSTS, Journal
from allocator.study.looks import DIVERGENCE, SCORE
from allocator.study.proposed import Proposed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pytest

    from allocator.bench.sense import Said
    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.study.looks import Looks

METHODS = ("uniform", "awq")
WIDTHS = (2, 4, 8)
CHOICES = tuple(Choice(bits, method) for bits in WIDTHS for method in METHODS)

# the divergence on few samples, then on more; and the score of many behind them
TWO = ((DIVERGENCE, 32, 6), (DIVERGENCE, 128, 1))
THREE = ((DIVERGENCE, 32, 8), (DIVERGENCE, 128, 3), (SCORE, 256, 1))


def loss(allocation: Allocation) -> float:
    """What an allocation loses: more with fewer bits, in language most of all."""
    heavy = {"vision": 1.0, "connector": 0.5, "language": 2.0}
    return math.fsum(
        heavy[key.split(".")[0]]
        * 2.0 ** (2 - choice.bits)
        * (1.0 if choice.method == "awq" else 1.3)
        for key, choice in allocation
        if choice.bits < 16
    )


def score(allocation: Allocation) -> float:
    """90 at full precision."""
    return 90.0 - 4 * loss(allocation)


def divergence(allocation: Allocation) -> float:
    """Rises as the score falls."""
    return loss(allocation) / 20


def damage_of(space: ModelSpace) -> dict[tuple[str, Choice], float]:
    """What each choice loses alone."""
    full = space.full
    return {
        (key, choice): loss(full.replace({key: choice}))
        for key in space.keys
        for choice in space.choices
    }


def drawn(spec: ModelSpec, count: int, seed: int = 0) -> list[Allocation]:
    """Different allocations at random."""
    random, full = Random(seed), space_of(spec).full
    found: dict[str, Allocation] = {}
    while len(found) < count:
        each = full.replace({key: random.choice(CHOICES) for key in spec.keys})
        found[each.digest] = each
    return list(found.values())


def judged(
    looks: Looks, allocations: Sequence[Allocation], scores: Sequence[float]
) -> None:
    """Proposals that were measured, the first half of them drawn by chance."""
    half = len(allocations) // 2
    looks.proposed = [
        Proposed(each, ("a goal", 4.0), at < half, value)
        for at, (each, value) in enumerate(zip(allocations, scores, strict=True))
    ]


def looked_at(
    looks: Looks, allocations: Sequence[Allocation], sign: float = 1.0
) -> list[tuple[Allocation, float]]:
    """Proposals that diverge as their score falls, or rises."""
    for each in allocations:
        for size in (32, 128):
            look = divergence(each) if sign > 0 else 1 - divergence(each)
            looks.learn(each, (DIVERGENCE, size), look)
    measured = [(each, score(each)) for each in allocations]
    judged(looks, allocations, [value for _, value in measured])
    return measured


def samples(count: int, stem: str) -> tuple[Sample, ...]:
    return tuple(
        Sample(f"{stem}{at}", Path("none"), "vqa", "", ()) for at in range(count)
    )


def two_each(count: int) -> tuple[Sample, ...]:
    """Samples of the evaluation set, of two to a picture."""
    return tuple(
        replace(each, image=Path(f"{at // 2}"))
        for at, each in enumerate(samples(count, "e"))
    )


@dataclass
class FakeBench:
    """Scores by formulas, and notes each run: what was done, on which samples."""

    scored: Callable[[Allocation], float] = score
    diverges: Callable[[Allocation], float] = divergence
    bonus: float = 0.0
    runs: list[tuple[str, str, int]] = field(default_factory=list)
    cost: Cost = field(default_factory=Cost)
    faulty: str | None = None
    said: dict[str, Said] = field(default_factory=dict)
    model: Any = field(
        default_factory=lambda: SimpleNamespace(prefix=("vision", "connector"))
    )

    def score(self, allocation: Allocation, some: Sequence[Sample]) -> Score:
        self.runs.append(("score", allocation.digest, len(some)))
        self.cost.scored += len(some)
        mean = self.scored(allocation) + self.bonus
        return Score(mean, (mean,) * len(some))

    def predictions(
        self, allocation: Allocation, some: Sequence[Sample]
    ) -> list[float]:
        found = self.score(allocation, some)
        # what scores no number was no reply either
        broken = not math.isfinite(found.mean)
        return [found.mean if broken else value for value in found.values]

    def score_of(
        self, allocation: Allocation, said: Sequence[float], some: Any, whole: Any
    ) -> Score:
        assert len(said) == len(some) <= len(whole)
        del allocation
        return Score(math.fsum(said) / len(said), tuple(said))

    def divergence(
        self, allocation: Allocation, some: Sequence[Sample], ahead: Any = None
    ) -> float:
        del ahead
        self.runs.append(("divergence", allocation.digest, len(some)))
        self.cost.looked += len(some)
        return self.diverges(allocation)

    def order(self, allocation: Allocation) -> str:
        return allocation.digest

    def fault(self, some: Sequence[Sample]) -> str | None:
        assert some
        return self.faulty

    def applied(self, allocation: Allocation) -> str:
        return f"{allocation.digest}{self.bonus:+g}"

    @contextmanager
    def under(self, cells: Any) -> Iterator[FakeBench]:
        yield replace(self, bonus=cells.bonus, runs=self.runs)


@dataclass
class Told:
    """A watch that keeps what it is told."""

    said: list[str] = field(default_factory=list)
    phases: list[str] = field(default_factory=list)

    def phase(self, name: str) -> Any:
        self.phases.append(name)
        return nullcontext(self._tell)

    def _tell(self, done: int, total: int, note: str = "", /) -> None:
        assert 0 <= done <= total, note

    def say(self, text: str) -> None:
        self.said.append(text)


def asked_for(**options: Any) -> StudySpec:
    usual: dict[str, Any] = {"budget": "5", "trials": 3, "strategy": "evolution"}
    if {"front", "min_score"} & options.keys():
        usual["budget"] = None
    # what takes place behind the search has tests of its own
    usual |= {"refine": False, "tune": False}
    known = {**usual, "methods": METHODS, "widths": WIDTHS, **options}
    return StudySpec(task="vqav2", **known)


def space_of(spec: ModelSpec, asked: StudySpec | None = None) -> ModelSpace:
    if asked is None:
        return ModelSpace(spec, Scheme(), CHOICES, Budget(5.0))
    return ModelSpace(spec, asked.scheme, asked.choices, asked.limit, asked.pins)


def search_of(
    spec: ModelSpec,
    url: str,
    asked: StudySpec,
    bench: FakeBench | None = None,
    searched: int = 400,
    evaluated: int = 0,
) -> Search:
    """A search that has not begun, its prior known.

    The evaluation set has 500 samples of one picture, so that nothing races there, or
    as many as are said, of two to a picture.
    """
    space = space_of(spec, asked)
    setup: Any = SimpleNamespace(
        asked=asked,
        space=space,
        model=spec,
        candidates=(),
        device="cpu",
        task=SimpleNamespace(name="vqav2", metric="accuracy (%)", needs="reply"),
        samples={
            "calibration": samples(80, "c"),
            "search": samples(searched, "s"),
            "evaluation": two_each(evaluated) or samples(500, "e"),
        },
    )
    journal = Journal.create(url, "study", "identity", asked.to_json())
    journal.set_attribute(COSTS, space.costs)
    journal.set_attribute(ARITHMETIC, "cpu/float32")
    if journal.damage(space) is None:
        journal.keep_damage(damage_of(space))
        fine = space.by_linear()
        for kind in LINEAR_RIVALS:
            journal.keep_damage(damage_of(fine), KEPT + kind)
    bench = bench or FakeBench()
    return Search(setup, journal, bench, Told(), Clock())  # type: ignore[arg-type]


def runs(search: Search) -> list[tuple[str, str, int]]:
    """What was done to which allocation on how many samples, in order."""
    bench: Any = search.bench
    found: list[tuple[str, str, int]] = bench.runs
    return found


def fake_weights(
    patch: pytest.MonkeyPatch, bonus: float = 0.0, tuned: float = 0.0
) -> list[str]:
    """Finalized weights that add to every score, and tuned ones that add still more.

    Returns digests of the allocations whose weights were made, in order; what is taken
    away again is made anew where it is asked for.
    """
    made: list[str] = []
    room = "allocator.search.shipped"
    there: set[str] = set()

    def finalize(setup: Any, allocation: Allocation, watch: Any, **how: bool) -> Any:
        del setup, watch
        made.append(_named(allocation, how))
        there.add(made[-1])
        added = bonus + (tuned if how.get("tuned") else 0.0)
        return SimpleNamespace(bonus=added, digest="of the weights")

    patch.setattr(f"{room}.finalize", finalize)
    patch.setattr(f"{room}.is_finalized", there.__contains__)
    patch.setattr(f"{room}.discard_finalized", there.discard)
    patch.setattr(
        f"{room}.finalized_digest",
        lambda _, allocation, **how: _named(allocation, how),
    )
    return made


def _named(allocation: Allocation, how: dict[str, bool]) -> str:
    return f"{allocation.digest}{' tuned' if how.get('tuned') else ''}"
