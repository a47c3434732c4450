from __future__ import annotations

import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench.needs import Needs, check_fits, kept_bytes, needs_of
from allocator.bench.prepare import prepare
from allocator.core.errors import BankError, SpecError
from allocator.core.study import StudySpec
from allocator.core.unit_costs import Bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.bench.prepare import Setup

GB = 10**9


@pytest.fixture(scope="module")
def setup(
    tmp_path_factory: pytest.TempPathFactory, drawn_world: Path
) -> Iterator[Setup]:
    asked = StudySpec("4.0", "vqav2", data=str(drawn_world), calibration=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield prepare(asked)


def with_room(needs: Needs, **room: int) -> Needs:
    every: dict[str, Any] = {"disk": 100 * GB, "host": 100 * GB, "device": 0}
    return replace(needs, room=Bytes(**{**every, **room}))


def test_without_a_bank_all_its_cells_are_needed(setup: Setup) -> None:
    found = needs_of(setup, finalized=3)
    assert set(found.solved.values()) == {0}
    # 344,064 weights by two methods that are stored, at 2, 3, 4, 5, 6 and 8 bits, with
    # a few more of each for scales and zero-points
    codes = 2 * 344_064 * (2 + 3 + 4 + 5 + 6 + 8) / 8
    assert codes < found.bank < 1.3 * codes
    # three allocations of at most 4 bits a weight, less what is not quantized
    assert 0.7 * 3 * 344_064 / 2 < found.finalized < 3 * 376_896 / 2
    assert found.least.disk == found.bank + found.finalized
    # its parameters in float32 are the least of it
    assert found.least.host > 4 * 376_896
    check_fits(setup, with_room(found))


def test_what_no_memory_holds_is_refused(setup: Setup) -> None:
    found = needs_of(setup)
    told = r"tiny-blip2 takes at least .* of memory and this machine has 50 MB"
    with pytest.raises(SpecError, match=told):
        check_fits(setup, with_room(found, host=50 * 10**6))


def test_where_an_accelerator_is_too_small_the_host_may_do(setup: Setup) -> None:
    found = needs_of(setup)
    large = replace(found, least=replace(found.least, device=30 * GB))
    with pytest.raises(SpecError, match=r"has 24 GB: --device cpu takes .* of 100 GB"):
        check_fits(setup, with_room(large, device=24 * GB))
    with pytest.raises(SpecError, match="has 24 GB: choose a smaller model"):
        check_fits(setup, with_room(large, device=24 * GB, host=10**6))


def test_finalized_weights_count_on_the_disk(setup: Setup) -> None:
    found = needs_of(setup, finalized=3)
    told = f"has .* free: --no-finalize takes {re.escape('2.')}"
    with pytest.raises(BankError, match=told):
        check_fits(setup, with_room(found, disk=found.bank + 1000))


def test_a_bank_that_does_not_fit_is_refused_by_its_methods(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(setup.folder)
    few = usage._replace(free=10**6)
    monkeypatch.setattr("shutil.disk_usage", lambda _: few)
    with pytest.raises(BankError, match=r"limit it with --methods .* or"):
        check_fits(setup, with_room(needs_of(setup)))


def test_caches_come_to_what_there_is_up_to_their_limits(setup: Setup) -> None:
    samples = sum(map(len, setup.samples.values()))
    # of a hundred allocations, 16 calibration samples of each; 160 MB of libraries
    some = 10 * samples + 100 * samples + 100 * 16
    assert kept_bytes(setup, 10, 1) == 160_000_000 + some
    # 512 MiB of inputs, 256 MiB of features, 256 MiB of states
    most = 2**29 + 2**28 + 2**28
    assert kept_bytes(setup, 10**9, 10**9) == 160_000_000 + most
