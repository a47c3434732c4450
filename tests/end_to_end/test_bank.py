"""The bank on disk: built, shared, killed, damaged, checked and cleaned up."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from studies.bank.kills import Trial, kill_and_build
from tests.end_to_end.command import allocate, environment, run, start
from tests.worlds import lend

if TYPE_CHECKING:
    from pathlib import Path

BUILD = ("bank", "build", "--model", "tiny-llava", "--task", "vqav2")
SMALL = (*BUILD, "--methods", "uniform,gptq", "--widths", "2,3")
# vision and language have 3 blocks of 6 and 7 linears, the projector 2
LINEARS = 3 * 6 + 3 * 7 + 2


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, drawn_world: Path) -> Path:
    home = tmp_path_factory.mktemp("home")
    lend(drawn_world, home / "cache")
    return home


@pytest.fixture(scope="module")
def built(home: Path) -> Any:
    return allocate(home, *SMALL)


def files_of(home: Path) -> list[Path]:
    return sorted(home.glob("cache/allocate/bank/*/*.safetensors"))


def test_build_says_what_it_made(built: Any) -> None:
    assert built["linears"] == LINEARS
    assert built["cells"] == built["made"] == LINEARS * 2 * 2
    assert built["damaged"] == 0
    assert 0 < built["bytes"] <= built["announced_bytes"] + 10**6


def test_another_build_makes_nothing(home: Path, built: Any) -> None:
    assert allocate(home, *SMALL)["made"] == 0
    assert built["made"] > 0


def test_verify_finds_nothing_wrong_with_a_whole_bank(home: Path, built: Any) -> None:
    found = allocate(home, "bank", "verify")
    assert found["damaged"] == 0
    assert found["cells"] >= built["cells"]
    assert all(bank["finished"] for bank in found["banks"])


def test_a_flipped_byte_is_found_and_that_cell_alone_is_made_again(
    home: Path, built: Any
) -> None:
    file = files_of(home)[len(files_of(home)) // 2]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    others = {f: f.stat().st_ino for f in files_of(home) if f != file}

    done = run(home, "bank", "verify", "--json")
    assert done.returncode == 2
    assert "1 of" in done.stderr
    assert json.loads(done.stdout)["damaged"] == 1
    (damaged,) = json.loads(done.stdout)["banks"][0]["damaged"]
    assert damaged["file"] == str(file)

    again = allocate(home, *SMALL)
    assert (again["damaged"], again["made"]) == (1, 1)
    assert allocate(home, "bank", "verify")["damaged"] == 0
    assert others == {f: f.stat().st_ino for f in others}
    assert built["cells"] == again["cells"]


def test_two_processes_share_the_work(tmp_path: Path, drawn_world: Path) -> None:
    # neither draws the world, so that both start on the bank at once
    lend(drawn_world, tmp_path / "cache")
    words = (*BUILD, "--methods", "gptq,awq", "--widths", "2,3,4", "--json")
    both = [start(environment(tmp_path), *words) for _ in range(2)]
    done = [each.wait() for each in both]
    assert [each.returncode for each in done] == [0, 0], done
    made = [json.loads(each.stdout)["made"] for each in done]
    # every cell once, by one of them
    assert sum(made) == LINEARS * 2 * 3
    assert allocate(tmp_path, "bank", "verify")["damaged"] == 0


class Forked(Trial):
    """Is killed sooner: what builds until then has its libraries in memory."""

    def kill(self, seconds: float) -> bool:
        build = start(self.environment, "bank", "build", *self.options)
        if build.first_line().startswith("0 of"):
            build.wait()
            return False
        time.sleep(seconds)
        return build.kill()


def test_nothing_finished_is_lost_or_made_again_by_kills(tmp_path: Path) -> None:
    options = (*BUILD[2:], "--methods", "gptq,awq", "--widths", "2,3,4,8")
    assert (
        kill_and_build(tmp_path, options, kills=2, longest=1.0, seed=0, begin=Forked)
        >= 1
    )


def test_gc_removes_drafts_and_outdated_cells_and_nothing_else(
    home: Path, built: Any
) -> None:
    folder = files_of(home)[0].parent
    (folder / ".part-x").write_bytes(b"half")
    before = {f: f.read_bytes() for f in files_of(home)}
    dry = allocate(home, "bank", "gc", "--dry-run")
    assert [each["what"] for each in dry["removed"]] == [str(folder / ".part-x")]
    assert (folder / ".part-x").exists()
    assert allocate(home, "bank", "gc")["removed"] == dry["removed"]
    assert not (folder / ".part-x").exists()
    assert before == {f: f.read_bytes() for f in files_of(home)}
    assert allocate(home, *SMALL)["made"] == 0
    assert built["cells"] > 0


def test_gc_removes_banks_that_are_not_used(home: Path, built: Any) -> None:
    assert allocate(home, "bank", "gc", "--unused", "30d")["removed"] == []
    (gone,) = allocate(home, "bank", "gc", "--unused", "0s")["removed"]
    assert gone["bytes"] >= built["bytes"] // 2
    assert files_of(home) == []
    assert allocate(home, "bank", "verify")["banks"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*BUILD, "--methods", "nf4"), "no method 'nf4'"),
        ((*BUILD, "--widths", "7"), "width 7 is not possible"),
        ((*BUILD, "--calibration", "0"), "calibration samples must be 1 to 128"),
        ((*BUILD[:3], "tiny-bert", "--task", "vqav2"), "tiny-bert"),
        ((*BUILD[:4], "--task", "vqa"), "no task 'vqa'"),
        ((*BUILD, "--group-size", "100"), "group size 100"),
        (("bank", "gc", "--unused", "soon"), "is not a time"),
    ],
)
def test_wrong_requests_are_refused_in_a_sentence(
    home: Path, words: tuple[str, ...], said: str
) -> None:
    done = run(home, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 6
