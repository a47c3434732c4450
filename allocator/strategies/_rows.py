"""Which row of a table to read next, when there is nothing but the scores read so far.

Bits and sizes of all rows are known; about scores, two things are believed beforehand.
More bits seldom hurt: a row is worth reading once those that are wider in every group
have been read, or soon will be. And noise falls fourfold with each bit: the first rows
are those of least noise, for sensitivities of the groups that are drawn at random, as
nobody knows them. After these, a smooth model ranks by mean + spread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.strategies._base import Candidate
from surrogate.features import Features, bit_matrix, log2_matrix
from surrogate.process import GaussianProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from allocator.core.allocation import Allocation
    from allocator.space.base import Space
    from allocator.strategies._base import Known

    Array = NDArray[np.float64]

START = 4  # rows read before the model is asked
# candidates: layers of rows that no other unread row is wider than, until so many
ENOUGH = 24
SPREAD = 0.25  # weight of the spread against the mean
# unread rows compared with each other at a time; of a larger table, a draw
MOST = 2000
# groups' sensitivities before anything is read: spread of their logarithms, and the
# exponent of their size (in between of alike for all groups and for all weights)
UNKNOWN, BY_SIZE = 1.0, 0.5
LEAST_SHARE = 1e-3


class Rows:
    """The rows of a table, and what is known of them without a score.

    Args:
        keys: groups, the columns in order.
        rows: the rows that may be read.
        shares: relative sizes of the groups, 1 in all.
    """

    def __init__(
        self, keys: Sequence[str], rows: Sequence[Allocation], shares: Array
    ) -> None:
        self.keys = keys
        self.rows = rows
        self.shares = shares
        self.digests = [row.digest for row in rows]
        self.bits = bit_matrix(keys, rows)

    @staticmethod
    def of(space: Space, rows: Sequence[Allocation]) -> Rows:
        """The rows of a space, with sizes as it estimates them."""
        ends = space.widths[0], space.widths[-1]
        costs = [space.group_bytes[key] for key in space.keys]
        spans = np.array([max(cost[ends[1]] - cost[ends[0]], 0.0) for cost in costs])
        total = float(spans.sum())
        shares = spans / total if total else np.ones(len(spans)) / len(spans)
        shares = np.maximum(shares, LEAST_SHARE)
        return Rows(space.keys, rows, shares / shares.sum())

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """Up to `count` unread rows, best first; none where all are read."""
        unread = [at for at, name in enumerate(self.digests) if name not in known.taken]
        if not unread:
            return []
        if len(unread) > MOST:
            unread = sorted(rng.choice(unread, size=MOST, replace=False).tolist())
        told = self._believed(known)
        if len(told) < START:
            return [Candidate(self.rows[at]) for at in self._quiet(unread, rng)[:count]]
        pool = [unread[at] for at in layers(self.bits[unread], ENOUGH)]
        model = GaussianProcess(seed=int(rng.integers(2**32)))
        seen, scores = zip(*told, strict=True)
        model.fit(self._features(seen), scores)
        mean, spread = model.predict(self._features([self.rows[at] for at in pool]))
        order = np.argsort(-(mean + SPREAD * spread), kind="stable")[:count]
        return [
            Candidate(self.rows[pool[at]], float(mean[at]), float(spread[at]))
            for at in order
        ]

    def _believed(self, known: Known) -> list[tuple[Allocation, float]]:
        """What was read, and what is pending with the score that the model predicts.

        The "kriging believer" of Ginsbourger, Le Riche and Carraro (2010): what lies
        near is less uncertain. Of what a model could be told it lost the least
        (studies/search).
        """
        told = list(known.measured)
        if told and known.pending:
            seen, scores = zip(*told, strict=True)
            model = GaussianProcess(seed=len(known.pending))
            model.fit(self._features(seen), scores)
            mean, _ = model.predict(self._features(known.pending))
            told += zip(known.pending, mean.tolist(), strict=True)
        return told

    def _quiet(self, unread: list[int], rng: np.random.Generator) -> list[int]:
        """Rows by rising noise, for sensitivities drawn at random."""
        drawn = rng.lognormal(0.0, UNKNOWN, len(self.keys))
        noise = 4.0 ** -self.bits[unread] @ (self.shares**BY_SIZE * drawn)
        return [unread[at] for at in np.argsort(noise, kind="stable")]

    def _features(self, allocations: Sequence[Allocation]) -> Features:
        """Log2 bits of the groups, and of the uniform width of the same noise."""
        noise = 4.0 ** -bit_matrix(self.keys, allocations) @ self.shares
        even = np.log2(-0.5 * np.log2(noise))
        columns = np.column_stack([log2_matrix(self.keys, allocations), even])
        names = (*(f"log2 bits {key}" for key in self.keys), "log2 bits of equal noise")
        return Features(names, columns, (1,) * len(names))


def layers(bits: Array, enough: int) -> list[int]:
    """Rows that no other is wider than, then those of the rest, until enough.

    Args:
        bits: [n, groups].
        enough: rows after which no further layer is begun.

    Returns:
        Indices, layer by layer. A row is wider than another if it is so in some group
        and narrower in none.

    >>> layers(np.array([[2.0, 2.0], [4.0, 2.0], [3.0, 3.0], [2.0, 3.0]]), 3)
    [1, 2, 3]
    """
    wider = np.ones((len(bits), len(bits)), dtype=bool)
    for column in bits.T:
        wider &= column[None, :] >= column[:, None]
    # equal rows are no wider than each other
    wider &= bits.sum(axis=1)[None, :] > bits.sum(axis=1)[:, None]
    left, found = np.ones(len(bits), dtype=bool), list[int]()
    while left.any() and len(found) < enough:
        top = left & ~(wider & left).any(axis=1)
        found += np.flatnonzero(top).tolist()
        left &= ~top
    return found
