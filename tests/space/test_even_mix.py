"""The even mix against its definition, looked for among all shares."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Allocation, Budget, Choice, Scheme
from allocator.core.pins import Pins
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.space.even_mix import even_mix
from allocator.space.model import KeptSpace, ModelSpace

if TYPE_CHECKING:
    from collections.abc import Sequence

METHODS = ("gptq", "awq")
LOW = tuple(Choice(bits, method) for bits in (2, 3, 4, 8) for method in METHODS)
GPTQ = {bits: Choice(bits, "gptq") for bits in (2, 3, 4, 8)}


def spec_of(**rows: Sequence[int]) -> ModelSpec:
    """A linear of so many rows of 64 in each block of each component, a group each."""
    linears = [
        Linear(f"{name}.{at}", name, at, "ff", count, 64)  # type: ignore[arg-type]
        for name, counts in rows.items()
        for at, count in enumerate(counts)
    ]
    groups = build_groups(linears, "block")
    weights = sum(linear.weights for linear in linears)
    return ModelSpec("drawn", weights, groups, ())


def space_of(
    spec: ModelSpec,
    limit: float,
    choices: tuple[Choice, ...] = LOW,
    pins: Pins | None = None,
) -> ModelSpace:
    budget = Budget(limit, "bytes", "quantized")
    return ModelSpace(spec, Scheme(), choices, budget, pins or Pins())


def between(spec: ModelSpec, low: int, high: int, wide: int) -> ModelSpace:
    """Room for as many of equal groups at the higher width, and half a group more."""
    space = space_of(spec, 10**9)
    sizes = space.group_bytes[space.keys[0]]
    left = (wide + 0.5) * (sizes[high] - sizes[low])
    return space_of(spec, space.bytes(space.alike(GPTQ[low])) + left)


def bits_of(allocation: Allocation) -> list[int]:
    return [choice.bits for _, choice in allocation]


@pytest.mark.parametrize(
    ("wide", "bits"),
    [
        (0, [2, 2, 2, 2]),
        # just below 3/8: due are 0.37, 0.75, then 0.12, 0.5 less a little
        (1, [2, 3, 2, 2]),
        # just below 5/8: 0.62, 0.25, 0.87, 0.5 less a little
        (2, [3, 2, 3, 2]),
        (3, [3, 3, 3, 2]),
        (4, [3, 3, 3, 3]),
    ],
)
def test_four_equal_groups_are_mixed_as_worked_out_by_hand(
    wide: int, bits: list[int]
) -> None:
    space = between(spec_of(language=[64] * 4), 2, 3, wide)
    assert bits_of(even_mix(space, "gptq")) == bits


def test_every_component_gets_the_same_share() -> None:
    spec = spec_of(vision=[64] * 4, language=[64] * 8)
    found = even_mix(between(spec, 3, 4, 7), "awq")
    # a share below 5/8 gives 2 of 4 and 5 of 8, one above 7 too many
    assert bits_of(found)[:4] == [4, 3, 4, 3]
    assert bits_of(found)[4:].count(4) == 5
    assert {choice.method for _, choice in found} == {"awq"}


def mixed(
    space: ModelSpace, narrow: Allocation, wide: Allocation, share: Fraction
) -> Allocation:
    """The definition: what is due of a component is carried on from group to group."""
    due: dict[str, Fraction] = {}
    changes = {}
    weights = {group.key: group.weights for group in space.spec.groups}
    for (key, low), (_, high) in zip(narrow, wide, strict=True):
        if low == high:
            continue
        name = key.split(".")[0]
        due[name] = due.get(name, Fraction()) + share * weights[key]
        if 2 * due[name] >= weights[key]:
            due[name] -= weights[key]
            changes[key] = high
    return narrow.replace(changes)


def shares(space: ModelSpace, narrow: Allocation, wide: Allocation) -> set[Fraction]:
    """Every share at which a group may change sides, whatever those before it got."""
    found = {Fraction(0), Fraction(1)}
    rows: dict[str, list[int]] = {}
    differ = {key for (key, a), (_, b) in zip(narrow, wide, strict=True) if a != b}
    for group in space.spec.groups:
        if group.key in differ:
            rows.setdefault(group.component, []).append(group.weights)
    for row in rows.values():
        for at, own in enumerate(row):
            for before in itertools.product(*((0, w) for w in row[:at])):
                found.add(Fraction(2 * sum(before) + own, 2 * sum(row[: at + 1])))
    return found


def by_definition(space: ModelSpace, method: str) -> Allocation:
    widths = [c for c in space.choices if c.method in (method, None)]
    pairs = [space.near(c) for c in widths]
    fitting = [a for a in pairs if space.fits(a)]
    if fitting[-1] == pairs[-1]:
        return fitting[-1]
    narrow, wide = fitting[-1], pairs[len(fitting)]
    for share in sorted(shares(space, narrow, wide), reverse=True):
        found = mixed(space, narrow, wide, share)
        if space.fits(found):
            return found
    raise AssertionError("nothing fits at a share of 0")


@pytest.mark.parametrize("seed", range(40))
def test_it_is_the_largest_share_that_fits_by_looking_at_all(seed: int) -> None:
    drawn = Random(seed)
    parts = ("vision", "connector", "language")
    spec = spec_of(
        **{
            p: drawn.choices((16, 24, 48, 64, 200), k=drawn.randint(1, 6))
            for p in parts
        }
    )
    pins = Pins(at_least=("vision.00.*=3",), pin=("language.00.*=4/awq",))
    choices = (*LOW, Choice(16)) if seed % 4 == 0 else LOW
    wide = space_of(spec, 10**9, choices, pins if seed % 3 == 0 else None)
    least, most = wide.bytes(wide.smallest), wide.bytes(wide.widest)
    for _ in range(10):
        limit = drawn.uniform(least, 1.05 * most)
        space = replace(wide, budget=Budget(limit, "bytes", "quantized"))
        found = even_mix(space, "gptq")
        assert found == by_definition(space, "gptq")
        assert space.fits(found)
        assert space.keeps_pins(found)


def test_where_the_widest_fits_or_a_size_is_exact_it_is_uniform() -> None:
    spec = spec_of(vision=[64, 16], language=[48] * 3)
    roomy = space_of(spec, 10**9)
    assert even_mix(roomy, "gptq") == roomy.alike(GPTQ[8])
    exact = space_of(spec, roomy.bytes(roomy.alike(GPTQ[3])))
    assert even_mix(exact, "gptq") == exact.alike(GPTQ[3])


def test_one_width_is_mixed_with_nothing_and_16_bits_are_a_width_where_asked() -> None:
    spec = spec_of(vision=[64] * 4)
    one = space_of(spec, 10**9, (GPTQ[3], Choice(3, "awq")))
    assert even_mix(one, "awq") == one.alike(Choice(3, "awq"))
    both = (GPTQ[8], Choice(16))
    roomy = space_of(spec, 10**9, both)
    assert even_mix(roomy, "gptq") == roomy.full
    sizes = roomy.group_bytes[roomy.keys[0]]
    half = space_of(spec, 2 * sizes[8] + 2 * sizes[16], both)
    assert bits_of(even_mix(half, "gptq")) == [16, 8, 16, 8]


def test_a_study_needs_no_model_to_know_it() -> None:
    spec = spec_of(vision=[64] * 5, language=[96, 32] * 4)
    space = between(spec, 3, 4, 5)
    kept = KeptSpace(space.costs, space.budget)
    assert even_mix(kept, "gptq") == even_mix(space, "gptq")


def test_many_blocks_are_no_work() -> None:
    # as many as a model of 24 and 40 blocks decides one by one
    spec = spec_of(vision=[64, 128] * 24, language=[96, 256] * 40)
    space = between(spec, 4, 8, 70)
    found = even_mix(space, "gptq")
    assert space.fits(found)
    wide = [key for key, choice in found if choice.bits == 8]
    assert {key.split(".")[0] for key in wide} == {"vision", "language"}
