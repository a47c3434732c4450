"""Searches among drawn candidates whose looks are worth what is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, pi, sin
from typing import Any

import numpy as np

from allocator.search.rungs import Rungs
from allocator.strategies._base import Candidate
from allocator.study.looks import DIVERGENCE, SCORE
from allocator.study.proposed import Proposed

CANDIDATES = 48
# points: spread of the candidates' scores, and of the noise of one sample between two
SPREAD, NOISE = 3.0, 20.0
# of the divergence's noise, what the same samples do to the score
SHARED = 0.3
# how divergence on 32 samples follows that on 128; both on a logarithmic scale
FEWER, LOG_SPREAD, LOG_MEAN = 0.9, 0.45, -2.5


@dataclass(frozen=True)
class Drawn:
    """In place of an allocation: its name and what it would show."""

    digest: str
    true: float = 0.0
    scores: dict[int, float] = field(default_factory=dict, compare=False)
    looks: dict[int, float] = field(default_factory=dict, compare=False)


@dataclass
class World:
    """Draws candidates whose looks have a rank correlation with their true scores."""

    truth: float
    total: int
    rng: np.random.Generator
    gain: float = 0.0
    made: int = 0

    def candidates(self, shift: float, count: int = CANDIDATES) -> list[Drawn]:
        """Some that a strategy proposes, `shift` spreads above the first ones."""
        pearson = 2 * sin(pi / 6 * self.truth)
        latent, own, few, *noise = self.rng.normal(size=(6, count))
        own = SHARED * noise[0] + (1 - SHARED**2) ** 0.5 * own
        many = pearson * latent + (1 - pearson**2) ** 0.5 * own
        fewer = FEWER * many + (1 - FEWER**2) ** 0.5 * few
        looks = np.exp(LOG_MEAN - LOG_SPREAD * (np.array([many, fewer]) + shift)).T
        said, before, scores = np.zeros(count), 0, []
        # the first samples are within the next
        for size, draw in zip(self.sizes, noise, strict=True):
            more = size - before
            said += more * (90 + SPREAD * (latent + shift)) + NOISE * more**0.5 * draw
            before = size
            scores.append(said / size)
        self.made += count
        rows = zip(latent.tolist(), np.array(scores).T.tolist(), looks, strict=True)
        return [
            Drawn(
                f"{self.made + at}",
                true,
                dict(zip(self.sizes, row, strict=True)),
                dict(zip((128, 32), two.tolist(), strict=True)),
            )
            for at, (true, row, two) in enumerate(rows)
        ]

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Samples that scores are of."""
        return (128, 256, self.total)

    def baselines(self) -> list[Drawn]:
        """Seven that differ far more than candidates do, and in all alike."""
        found = []
        for at in range(7):
            scores = dict.fromkeys(self.sizes, 10.0 + 13 * at)
            looks = dict.fromkeys((32, 128), exp(0.7 - 0.6 * at))
            found.append(Drawn(f"baseline {at}", 0.0, scores, looks))
        return found


class Judged(Rungs):
    """Rungs that go on as if the divergence were trusted, with a schedule of choice."""

    schedule: tuple[int, ...] | None = None

    def trusts(self) -> bool:
        """What the rule says is asked beside."""
        return True

    def controls_due(self, made: int) -> int:
        """By the product's schedule, or another."""
        if self.schedule is None:
            return super().controls_due(made)
        return sum(at <= made for at in self.schedule)


class Trial:
    """One search under way."""

    def __init__(self, world: World, ladder: Any, schedule: tuple[int, ...] | None):
        self.world = world
        self.rungs = Judged(self._look, lambda a: a.digest, ladder)
        self.rungs.schedule, self.rungs.total = schedule, world.total
        self.proposed: dict[str, Proposed] = {}
        self.measured: list[Any] = []
        self.controls = 0
        for each in world.baselines():
            self.rungs.look_at(each)  # type: ignore[arg-type]
            self.measured.append((each, each.scores[world.total]))

    def _look(self, allocation: Any, kind: str, size: int) -> float:
        if kind == DIVERGENCE:
            return float(allocation.looks[size])
        self._learn_parts(allocation, size)
        return float(allocation.scores[size])

    def _learn_parts(self, allocation: Any, size: int) -> None:
        for few, value in allocation.scores.items():
            if few < size:
                self.rungs.learn(allocation, (SCORE, few), value)

    def step(self, made: int) -> float:
        """Measure a proposal; its true score."""
        world, rungs = self.world, self.rungs
        drawn = world.candidates(world.gain * made)
        found: Any = [Candidate(each) for each in drawn]  # type: ignore[arg-type]
        is_control = self.controls < rungs.controls_due(made)
        self.controls += is_control
        if is_control:
            found = rungs.drawn(found, world.rng)
            chosen: Any = rungs.control(found).allocation
        else:
            chosen = rungs.survivor(found, self.measured).allocation
        for each in found:
            if (DIVERGENCE, 128) in rungs.seen(each.allocation):
                self._propose(each.allocation, is_control)
        self._learn_parts(chosen, world.total)
        score = chosen.scores[world.total]
        self.measured.append((chosen, score))
        self._propose(chosen, is_control, score)
        rungs.proposed = list(self.proposed.values())
        return float(chosen.true + world.gain * made)

    def _propose(
        self, allocation: Any, is_control: bool, score: float | None = None
    ) -> None:
        one = Proposed(allocation, ("a goal", 4.0), is_control, score)
        self.proposed[allocation.digest] = one
