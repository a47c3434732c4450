from __future__ import annotations

from itertools import cycle, islice

from allocator.core.recurring import Recurring
from quant.lru_cache import LRUCache


def hits(kept: LRUCache | Recurring, keys: list[int], size: int = 1) -> int:
    """How many of some keys are there when they are asked for, in turn."""
    found = 0
    for key in keys:
        found += kept.get(key) is not None
        kept.put(key, size, key)
    return found


def test_a_scan_longer_than_what_fits_is_kept_as_far_as_it_fits() -> None:
    scans = list(islice(cycle(range(10)), 30))
    # the longest unused is always the next one
    assert hits(LRUCache(8), scans) == 0
    # 8 of 10 in the second and in the third
    assert hits(Recurring(8), scans) == 16


def test_what_is_asked_for_more_often_takes_the_place_of_what_is_not() -> None:
    kept = Recurring(4)
    assert hits(kept, list(range(10))) == 0
    # twice they are as good as others, or better for the first time
    assert hits(kept, [20, 21] * 10) == 16
    assert hits(kept, [20, 21]) == 2


def test_what_is_kept_stays_within_its_limit() -> None:
    kept = Recurring(10)
    hits(kept, list(range(5)) * 3, size=4)
    assert kept.held == 8
    kept.put("huge", 11, "huge")
    assert kept.get("huge") is None
