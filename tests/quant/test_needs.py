from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Scheme
from allocator.core.errors import BankError
from allocator.core.plugins import load
from allocator.core.spec import Linear
from quant import needs, room
from quant.bank import Recipe
from quant.needs import Needs, building
from quant.streaming import HELD_BYTES

if TYPE_CHECKING:
    from pathlib import Path

METHODS = {name: load("quant.methods", name) for name in ("uniform", "gptq")}
RECIPE = Recipe("", (), Scheme(), METHODS, (2, 4, 16))
LINEARS = [
    Linear("a", "language", 0, "ff", 4, 128),
    Linear("b", "language", 0, "ff", 2, 64),
    Linear("c", "language", 1, "ff", 2, 64),
]
LACKING = {linear.name: list(RECIPE.keys) for linear in LINEARS}
# a row of 128 and of 64 inputs: codes, a scale of 16 bits, a zero-point in whole bytes
# a matrix, and 16 bytes of shape; AWQ's scale of 16 bits an input
A2, A4 = (
    4 * 128 * 2 // 8 + 4 * 2 + 1 + 16 + 256,
    4 * 128 * 4 // 8 + 4 * 2 + 2 + 16 + 256,
)
B2, B4 = 2 * 64 * 2 // 8 + 2 * 2 + 1 + 16 + 128, 2 * 64 * 4 // 8 + 2 * 2 + 1 + 16 + 128
# what the first block has in memory: activations, two Hessians, and a factorization of
# 12 bytes a number of the larger one
COMPUTED = HELD_BYTES + 4 * (128**2 + 64**2) + 12 * 128**2


def test_what_building_takes_is_added_up() -> None:
    disk = A2 + A4 + 2 * (B2 + B4)
    assert building(RECIPE, LINEARS, LACKING) == Needs(disk, COMPUTED + A2 + A4, 0)


def test_on_a_device_only_what_is_packed_is_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(needs, "column_bytes", lambda _: 2**40)
    found = building(RECIPE, LINEARS, LACKING, "cuda")
    # weights are moved there, in 16 bits
    assert found.device == COMPUTED + 2 * 4 * 128
    assert found.host == A2 + A4


def test_experts_are_solved_one_by_one_and_have_what_all_read_beside_them() -> None:
    experts = [
        replace(LINEARS[0], name=f"e.{number}", is_expert=True) for number in range(8)
    ]
    lacking = {linear.name: list(RECIPE.keys) for linear in experts}
    # a Hessian each, that of all, and one that is mixed of both
    computed = HELD_BYTES + 4 * 128**2 * (8 + 2) + 12 * 128**2
    found = building(RECIPE, experts, lacking)
    assert found == Needs(8 * (A2 + A4), computed + A2 + A4, 0)


def test_what_is_there_or_is_not_stored_takes_nothing() -> None:
    assert building(RECIPE, LINEARS, {}) == Needs(0, 0, 0)
    rounded = {name: [RECIPE.key("uniform", 2)] for name in LACKING}
    assert building(RECIPE, LINEARS, rounded) == Needs(0, 0, 0)
    assert building(RECIPE, LINEARS, {"c": list(RECIPE.keys)}).disk == B2 + B4


@pytest.mark.parametrize(
    ("recipe", "free", "options"),
    [
        (
            RECIPE,
            A2 + 2 * B2,
            "limit it with --methods uniform or --widths 2,16, or let",
        ),
        (RECIPE, 10, "free: limit it with --methods uniform, or let XDG_CACHE_HOME"),
        (replace(RECIPE, methods={"gptq": METHODS["gptq"]}), 10, "free: let XDG_CACHE"),
    ],
)
def test_a_full_disk_is_refused_with_what_would_fit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: Recipe,
    free: int,
    options: str,
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    lacking = {name: list(recipe.keys) for name in LACKING}
    with pytest.raises(BankError, match=options):
        room.check_bank(tmp_path, recipe, LINEARS, lacking)


def test_too_little_memory_is_refused_with_what_would_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.check_bank(tmp_path, RECIPE, LINEARS, LACKING)
    monkeypatch.setattr(room, "free_memory", lambda _: COMPUTED)
    with pytest.raises(BankError, match=r"0\.3 GB of memory.*cpu has.*--widths"):
        room.check_bank(tmp_path, RECIPE, LINEARS, LACKING)


def test_free_memory_is_told_or_taken_for_endless() -> None:
    assert room.free_memory("cpu") > 2**20
