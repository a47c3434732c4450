from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.space.table import TableSpace, read_table
from allocator.strategies import _rows
from allocator.strategies._base import Known
from allocator.strategies._rows import START, Rows, layers

CAPTIONS = Path(__file__).parents[2] / "studies" / "published" / "blip2_coco_awq.csv"


def of(*bits: int) -> Allocation:
    choices = (Choice(b, None if b == 16 else "measured") for b in bits)
    return Allocation(tuple(zip("abc", choices, strict=False)))


def grid(*widths: int, groups: int = 3) -> list[Allocation]:
    return [of(*bits) for bits in itertools.product(widths, repeat=groups)]


def rows_of(found: list[Allocation]) -> Rows:
    keys = tuple(key for key, _ in found[0])
    return Rows(keys, found, np.ones(len(keys)) / len(keys))


def peeled(bits: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Layers of rows that no other is wider than, a pair at a time."""
    left = {tuple(map(int, row)) for row in bits}
    found = []
    while left:
        top = {
            row
            for row in left
            if not any(
                other != row and all(a >= b for a, b in zip(other, row, strict=True))
                for other in left
            )
        }
        found.append(top)
        left -= top
    return found


@pytest.mark.parametrize("seed", range(4))
def test_layers_are_what_comparing_all_pairs_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = np.unique(rng.choice([2, 3, 4, 8], (30, 3)), axis=0).astype(float)
    expected = peeled(bits)
    found = layers(bits, len(bits))
    assert sorted(found) == list(range(len(bits)))
    for layer in expected:
        own, found = found[: len(layer)], found[len(layer) :]
        assert {tuple(map(int, bits[at])) for at in own} == layer


def test_no_layer_is_begun_when_there_are_enough() -> None:
    bits = np.array([[2.0, 2], [2, 4], [4, 2], [3, 3], [2, 3]])
    assert layers(bits, 1) == [1, 2, 3]
    assert layers(bits, 3) == [1, 2, 3]
    assert layers(bits, 4) == [1, 2, 3, 4]


def test_equal_rows_share_a_layer() -> None:
    assert layers(np.array([[2.0, 2], [3, 3], [3, 3]]), 1) == [1, 2]


def test_the_first_rows_are_among_those_that_no_other_is_wider_than() -> None:
    space = TableSpace(read_table(CAPTIONS, "CIDEr", "bpw"), 4.5)
    rows = Rows.of(space, space.rows)
    bits = np.array([[c.bits for _, c in row] for row in space.rows])
    tops = peeled(bits)[0]
    firsts = {
        tuple(c.bits for _, c in found.allocation)
        for seed in range(20)
        for found in rows.candidates(Known(()), 1, np.random.default_rng(seed))
    }
    assert firsts <= tops
    assert len(firsts) > 1


def test_candidates_are_unread_and_each_is_given_once() -> None:
    found = grid(2, 3, 4)
    rows, rng = rows_of(found), np.random.default_rng(0)
    read = tuple((a, float(at)) for at, a in enumerate(found[::2]))
    taken = frozenset(a.digest for a, _ in read)
    told = rows.candidates(Known(read, taken=taken), 100, rng)
    digests = [each.allocation.digest for each in told]
    assert sorted(digests) == sorted(a.digest for a in found[1::2])
    assert all(each.about for each in told)
    everything = frozenset(a.digest for a in found)
    assert rows.candidates(Known(read, taken=everything), 3, rng) == []


def test_what_helped_before_is_tried_again() -> None:
    found = grid(2, 3, 4, 6, groups=2)
    rows = rows_of(found)
    # only the first group matters, and rows with few bits in it were read
    read = tuple((of(a, b), 10.0 * a) for a, b in [(2, 2), (2, 6), (3, 2), (3, 6)])
    taken = frozenset(a.digest for a, _ in read) | {of(6, 6).digest}
    assert len(read) == START
    told = rows.candidates(Known(read, taken=taken), 1, np.random.default_rng(0))
    assert told[0].allocation["a"].bits > 3


def test_a_large_table_is_looked_at_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = grid(2, 3, 4)
    rows = rows_of(found)
    monkeypatch.setattr(_rows, "MOST", 5)
    told = rows.candidates(Known(()), 100, np.random.default_rng(0))
    assert len({each.allocation.digest for each in told}) == 5
