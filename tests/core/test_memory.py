from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core import memory
from allocator.core.amounts import read_bytes
from allocator.core.errors import SpecError
from allocator.core.recurring import Recurring

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GB, MB = 10**9, 10**6


@pytest.fixture(autouse=True)
def free() -> Iterator[None]:
    yield
    memory.allow(None)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 16 GB, whose files are below a folder."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory, "_physical", lambda: 16 * GB)
    write(tmp_path / "proc/meminfo", "MemTotal: 99 kB\nMemAvailable: 9000000 kB\n")
    takes(tmp_path, 100)
    return tmp_path


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def takes(machine: Path, megabytes: int) -> None:
    """Let this process take so much, and map a file of a gigabyte."""
    anonymous = f"RssAnon:\t{megabytes * 900} kB\nRssShmem:\t{megabytes * 100} kB\n"
    write(machine / "proc/self/status", f"{anonymous}RssFile:\t1000000 kB\n")


def in_group(machine: Path, line: str, folder: str, **files: object) -> None:
    write(machine / "proc/self/cgroup", f"9:name=systemd:/\n{line}\n")
    for name, value in files.items():
        write(machine / "groups" / folder / name.replace("_", ".", 1), f"{value}\n")


def test_without_groups_the_machine_is_all_there_is(machine: Path) -> None:
    assert memory.machine_bytes() == memory.host_bytes() == 16 * GB
    assert memory.free_bytes() == 9_000_000 * 1024
    del machine


@pytest.mark.parametrize("limit", ["max", 2**63 - 4096])
def test_a_group_without_a_limit_takes_nothing_away(machine: Path, limit: str) -> None:
    in_group(machine, "0::/a", "a", memory_max=limit)
    assert memory.machine_bytes() == 16 * GB


@pytest.mark.parametrize("folder", ["outer/inner", "outer", ""])
def test_each_group_around_a_process_holds_for_it(machine: Path, folder: str) -> None:
    in_group(machine, "0::/outer/inner", folder, memory_max=3 * GB)
    assert memory.machine_bytes() == 3 * GB


def test_groups_of_the_first_kind_hold_too(machine: Path) -> None:
    line, name = "4:cpu,memory:/docker/7f", "memory/docker/7f"
    in_group(machine, line, name, memory_limit_in_bytes=2 * GB)
    assert memory.machine_bytes() == 2 * GB


def test_a_container_sees_its_own_group_as_the_outermost(machine: Path) -> None:
    # the path is the host's, and there is no such folder inside
    in_group(machine, "4:memory:/docker/7f", "memory", memory_limit_in_bytes=2 * GB)
    assert memory.machine_bytes() == 2 * GB


def test_what_a_group_only_caches_of_files_is_free(machine: Path) -> None:
    about = {"memory_max": 5 * GB, "memory_current": 4 * GB}
    in_group(machine, "0::/", "", **about)
    write(machine / "groups/memory.stat", f"anon {GB}\nfile {3 * GB}\n")
    assert memory.free_bytes() == 5 * GB - (4 - 3) * GB


def test_a_limit_counts_as_all_there_is(machine: Path) -> None:
    memory.allow(4 * GB, GB)
    assert memory.host_bytes() == 4 * GB
    assert memory.spare_bytes() == 3 * GB
    # mapped files can be dropped: they are not taken
    assert memory.taken_bytes() == 100 * 1000 * 1024
    assert memory.free_bytes() == 4 * GB - 100 * 1000 * 1024
    del machine


def test_more_than_there_is_is_no_limit(machine: Path) -> None:
    memory.allow(99 * GB)
    assert memory.host_bytes() == 16 * GB
    assert memory.share(0.001, 8 * GB) == 8 * GB
    in_group(machine, "0::/", "", memory_max=2 * GB)
    memory.allow(99 * GB)
    assert memory.host_bytes() == 2 * GB


def test_a_container_is_a_limit_that_nobody_has_to_give(machine: Path) -> None:
    in_group(machine, "0::/", "", memory_max=2 * GB)
    memory.allow(None, GB)
    assert memory.share(0.5, 8 * GB) == GB // 2


def test_shares_are_of_what_is_left_and_no_more_than_of_use(machine: Path) -> None:
    memory.allow(3 * GB, GB)
    assert memory.share(0.25, 8 * GB) == GB // 2
    assert memory.share(0.25, MB) == MB
    memory.allow(GB, 2 * GB)
    assert memory.spare_bytes() == memory.share(0.25, MB) == 0
    memory.allow(None, GB)
    assert memory.share(0.25, 8 * GB) == 8 * GB
    del machine


def test_near_the_limit_nothing_more_is_kept(machine: Path) -> None:
    memory.allow(GB)
    kept = Recurring(GB)
    kept.put("a", 10 * MB, "a")
    takes(machine, 875)
    # 896 MB are taken: 10 more are over nine tenths of the limit
    kept.put("b", 10 * MB, "b")
    assert list(kept.values) == ["a"]
    memory.allow(None)
    kept.put("b", 10 * MB, "b")
    assert list(kept.values) == ["a", "b"]


def test_this_process_is_seen_to_take_something() -> None:
    before = memory.taken_bytes()
    if not before:
        pytest.skip("this system does not tell")
    some = bytearray(64 * MB)
    assert memory.taken_bytes() > before + 60 * MB
    del some
    memory.give_back()


@pytest.mark.parametrize(("text", "size"), [("8GiB", 2**33), ("1.5 MB", 1_500_000)])
def test_sizes_are_read_with_their_unit(text: str, size: int) -> None:
    assert read_bytes(text) == size
    with pytest.raises(SpecError, match="is not a size of memory such as"):
        read_bytes("8")
