"""Planted truths of importance, and searches simulated on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Table = NDArray[np.intp]

# as tiny-blip2: 18 groups, two of the connector's three kinds twice as large, a budget
# between 2 and 3 bits for most of them, three methods
WIDTHS = np.array([2, 3, 4, 5, 6, 8])
GROUPS, METHODS, BUDGET = 18, 3, 2.6
SIZES = np.array([1, 1, 1, 1, 1, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 1, 1.0])
COMPONENTS = np.repeat(["vision", "connector", "language"], 6)
HEAVY = {"vision": 1.0, "connector": 0.4, "language": 1.5}
NAMES = tuple(f"{name}.{at}" for at, name in enumerate(COMPONENTS))
# a pair's excess is some of the geometric mean of its groups' damage
PAIRS, EXCESS = 4, (-0.5, 1.0, 2.0)
# deviation of the scores of what is looked at well, in points: so on tiny-blip2
SPREAD = 1.2
# a search: candidates of a proposal, survivors of its first and its second look
PROPOSALS, CANDIDATES, FAR, FURTHER = 20, 49, 8, 4
PARENTS, FRESH = 6, 6


@dataclass
class Truth:
    """Damage of every group at every choice, [groups, widths, methods], and its pairs.

    `seen` is the damage that divergence sees; `noise` the deviation of a score on the
    search set, in points, and of what divergence on 128 samples says of it.
    """

    damage: Array
    seen: Array
    pairs: list[tuple[int, int, float]]
    noise: float
    scale: float = 1.0

    @staticmethod
    def drawn(rng: np.random.Generator, apart: float, noise: float) -> Truth:
        """A truth; `apart` is the deviation of log damage between score and look."""
        heavy = np.array([HEAVY[name] for name in COMPONENTS])
        weight = heavy * np.exp(1.3 * rng.normal(size=GROUPS))
        by_method = np.exp(0.7 * rng.normal(size=(GROUPS, METHODS)))
        decay = 1.5 * np.exp(0.3 * rng.normal(size=GROUPS))
        shape = np.exp2(-decay[:, None] * (WIDTHS - 2))
        damage = weight[:, None, None] * by_method[:, None] * shape[:, :, None]
        seen = damage * np.exp(apart * rng.normal(size=(GROUPS, 1, METHODS)))
        pairs = [
            (*rng.choice(GROUPS, 2, replace=False).tolist(), float(rng.choice(EXCESS)))
            for _ in range(PAIRS)
        ]
        truth = Truth(damage, seen, pairs, noise)
        # scores of what a search looks at spread as they do on the embedded model
        start = [filled(empty(rng), rng) for _ in range(200)]
        truth.scale = SPREAD / truth.loss(np.array(start), damage).std()
        for _ in range(2):
            rows = search(truth, rng).table
            truth.scale = SPREAD / truth.loss(rows, damage).std()
        return truth

    def loss(self, rows: Table, damage: Array) -> Array:
        """Damage [n] of rows [n, groups, 2], pairs included."""
        own = damage[np.arange(GROUPS), rows[..., 0], rows[..., 1]]
        total: Array = own.sum(axis=-1)
        for first, second, excess in self.pairs:
            total = total + excess * np.sqrt(own[..., first] * own[..., second])
        return total

    def score(self, rows: Table) -> Array:
        """True scores [n]."""
        return 95 - self.scale * self.loss(rows, self.damage)

    def look(self, rows: Table, samples: int, rng: np.random.Generator) -> Array:
        """Divergence [n], in points, less of it is better."""
        noise = self.noise * (128 / samples) ** 0.5 * rng.normal(size=len(rows))
        return self.scale * self.loss(rows, self.seen) + noise


@dataclass
class Search:
    """What a search looked at well: `table` [n, groups, 2] of places among choices.

    `looks` [n, 2] are divergence on 128 samples and the score on 256, `scores` [n] what
    was measured, NaN where nothing was; `proposals` [n] counts them.
    """

    table: Table
    looks: Array
    scores: Array
    proposals: Table

    @property
    def columns(self) -> Array:
        """What forests are fitted to, [n, 2 x groups]: bits, then methods."""
        return columns(self.table)


def columns(table: Table) -> Array:
    """Bits and methods as numbers, [n, 2 x groups]."""
    both = np.concatenate([WIDTHS[table[..., 0]], table[..., 1]], axis=1)
    return both.astype(np.float64)


def empty(rng: np.random.Generator) -> Table:
    """The smallest allocation, by methods at random."""
    methods = rng.integers(METHODS, size=GROUPS)
    return np.stack([np.zeros(GROUPS, dtype=np.intp), methods], axis=1)


def room(row: Table) -> float:
    """What is left of the budget, in bits times size."""
    return float(SIZES.sum() * BUDGET - WIDTHS[row[:, 0]] @ SIZES)


def filled(row: Table, rng: np.random.Generator) -> Table:
    """Narrowed at random until it fits, then widened until nothing does."""
    row = row.copy()
    while room(row) < 0:
        row[rng.choice(np.flatnonzero(row[:, 0])), 0] -= 1
    while True:
        up = np.minimum(row[:, 0] + 1, len(WIDTHS) - 1)
        cost = SIZES * (WIDTHS[up] - WIDTHS[row[:, 0]])
        fits = np.flatnonzero((cost > 0) & (cost <= room(row) + 1e-9))
        if not len(fits):
            return row
        row[rng.choice(fits), 0] += 1


def greedy(seen: Array, rng: np.random.Generator) -> Table:
    """What saves most damage a byte, by damage that is known roughly."""
    damage = seen * np.exp(0.5 * rng.normal(size=seen.shape))
    row = np.stack([np.zeros(GROUPS, dtype=np.intp), damage[:, 0].argmin(1)], axis=1)
    best = damage.min(axis=2)
    while True:
        up = np.minimum(row[:, 0] + 1, len(WIDTHS) - 1)
        cost = SIZES * (WIDTHS[up] - WIDTHS[row[:, 0]])
        fits = (cost > 0) & (cost <= room(row) + 1e-9)
        if not fits.any():
            row[:, 1] = damage[np.arange(GROUPS), row[:, 0]].argmin(axis=1)
            return row
        every = np.arange(GROUPS)
        saved = (best[every, row[:, 0]] - best[every, up]) / np.where(fits, cost, 1)
        row[np.where(fits, saved, -np.inf).argmax(), 0] += 1


def changed(parent: Table, rng: np.random.Generator) -> Table:
    """One to three groups at another width or by another method, filled again."""
    row = parent.copy()
    for group in rng.choice(GROUPS, rng.integers(1, 4), replace=False):
        if rng.random() < 0.5:
            row[group, 1] = rng.integers(METHODS)
        else:
            step = rng.choice([-1, 1])
            row[group, 0] = np.clip(row[group, 0] + step, 0, len(WIDTHS) - 1)
    return filled(row, rng)


def search(truth: Truth, rng: np.random.Generator) -> Search:
    """Proposals near a front: changes to the best so far, raced on looks."""
    seen: set[bytes] = set()
    known: list[tuple[float, Table]] = []
    found: list[list[Array]] = []
    for proposal in range(PROPOSALS):
        best = sorted(known, key=lambda each: -each[0])[:PARENTS]
        count = CANDIDATES - FRESH if best else 0
        rows = [changed(best[rng.integers(len(best))][1], rng) for _ in range(count)]
        fresh = (CANDIDATES - count) // 2
        rows += [filled(empty(rng), rng) for _ in range(fresh)]
        rows += [greedy(truth.seen, rng) for _ in range(fresh)]
        new = np.array([each for each in rows if each.tobytes() not in seen])
        seen |= {each.tobytes() for each in new}
        table = new[np.argsort(truth.look(new, 32, rng), kind="stable")[:FAR]]
        looks = np.full((len(table), 2), np.nan)
        looks[:, 0] = truth.look(table, 128, rng)
        order = np.argsort(looks[:, 0], kind="stable")
        table, looks = table[order], looks[order]
        off = 1.2 * truth.noise * rng.normal(size=len(table))
        looks[:FURTHER, 1] = (truth.score(table) + off)[:FURTHER]
        suggests = 95 - looks[:, 0]
        suggests[:FURTHER] = (suggests[:FURTHER] + looks[:FURTHER, 1]) / 2
        won = int(suggests[:FURTHER].argmax())
        scores = np.full(len(table), np.nan)
        scores[won] = truth.score(table)[won] + truth.noise * rng.normal()
        suggests[won] = scores[won]
        known += list(zip(suggests.tolist(), table, strict=True))
        found.append([table, looks, scores, np.full(len(table), proposal)])
    return Search(*(np.concatenate(part) for part in zip(*found, strict=True)))
