from __future__ import annotations

import pytest

from evals.subsets import Subsets


def pictures(count: int, each: int = 2) -> list[int]:
    return [at // each for at in range(count)]


@pytest.mark.parametrize(
    ("total", "sizes"),
    [
        # halves of the whole, from a thousand on
        (21_435, (1_340, 2_680, 5_359, 10_718, 21_435)),
        (5_000, (1_250, 2_500, 5_000)),
        # or from a quarter on, of sets that are smaller, but no less than 250
        (2_000, (500, 1_000, 2_000)),
        (500, (250, 500)),
        (499, (499,)),
    ],
)
def test_parts_double_up_to_the_whole(total: int, sizes: tuple[int, ...]) -> None:
    assert Subsets.of(range(total)).sizes == sizes


def test_parts_are_nested_and_hold_every_place_once() -> None:
    looks = Subsets.of(pictures(2_000), seed=3)
    assert sorted(looks.order) == list(range(2_000))
    seen: set[int] = set()
    for before, size in zip((0, *looks.sizes), looks.sizes, strict=False):
        new = looks.places(size, before)
        assert len(new) == size - before
        assert not seen & set(new)
        assert list(new) == sorted(new)
        seen |= set(new)
        assert seen == set(looks.places(size))


def test_what_shares_a_picture_stays_together() -> None:
    looks = Subsets.of(pictures(2_001, 3), seed=1)
    # 500.25 are a quarter: 501 is the end of a picture
    assert looks.sizes == (501, 1_002, 2_001)
    for size in looks.sizes:
        places = looks.places(size)
        assert {at // 3 for at in places} == {at // 3 for at in places[::3]}
        assert len(places) == 3 * len({at // 3 for at in places})
    # one picture alone leaves nothing to divide
    assert Subsets.of([0] * 2_000).sizes == (2_000,)


def test_each_task_has_its_share_of_every_part() -> None:
    looks = Subsets.of(pictures(4_000), (3_000, 1_000), seed=2)
    for size in looks.sizes:
        first = sum(at < 3_000 for at in looks.places(size))
        assert first == pytest.approx(0.75 * size, abs=2)


def test_the_seed_decides_the_order_and_nothing_else() -> None:
    one, same, other = (Subsets.of(pictures(1_000), seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.order != other.order
    assert one.sizes == other.sizes
