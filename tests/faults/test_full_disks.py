"""A disk that fills up: a sentence, nothing half-written, and on when there is room."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from click.testing import CliRunner

from allocator.bench.contents import Contents
from allocator.cli import main
from allocator.core.allocation import Choice, stored_size
from allocator.core.amounts import in_bytes
from allocator.core.drafts import DRAFT
from allocator.core.errors import DataError, FullError
from allocator.core.plan import plan_json
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.exporters._driver import write_export
from allocator.exporters._export import Export
from allocator.report.output import write_atomically
from evals.world.files import ensure_world
from quant import room
from quant.bank import Bank
from quant.finalized import Finalized
from quant.streaming import SPOOLED, Spool
from tests.exporters.dense import Dense
from tests.exporters.models import checkpoint_of, random_model
from tests.faults.disks import empty, fill, names, small_disk
from tests.quant.banks import Counted, Loaded, apart, build
from tests.quant.sequences import assigned, in_sequence

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.exporters._checkpoint import Checkpoint
    from quant.bank import Recipe

MB = 2**20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("export")
    random_model(folder / "model", "llava", 128)
    return checkpoint_of(folder / "model", (4, 8, 16))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 8 * MB) as folder:
        yield folder


@pytest.fixture
def unforeseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has room when it is asked, and somebody else fills it later."""
    usage = shutil.disk_usage("/")._replace(free=10**12)
    asked = {"disk_usage": lambda _: usage}
    monkeypatch.setattr(room, "shutil", type("shutil", (), asked))


def drafts(folder: Path) -> list[Path]:
    return [*folder.rglob(f"{DRAFT}*"), *folder.rglob(f"{SPOOLED}*")]


@pytest.mark.usefixtures("unforeseen")
def test_a_bank_goes_on_with_what_was_missing_when_the_disk_was_full(
    disk: Path, loaded: Loaded, recipe: Recipe
) -> None:
    method = Counted()
    counted = replace(recipe, methods={"mine": method})
    # a file of 64 x 64 weights at 3 and 4 bits takes about 5 kB
    fill(disk, 100_000)
    with pytest.raises(FullError) as caught:
        build(disk, counted, apart(loaded))
    folder = disk / counted.digest
    said = str(caught.value)
    assert said.startswith(f"the disk of {folder} is full: what is missing of the bank")
    assert "let XDG_CACHE_HOME name a larger disk" in said
    assert not drafts(disk)
    finished = {file.name for file in folder.glob("*.safetensors")}
    assert finished
    made = method.widths[3]
    empty(disk)
    build(disk, counted, apart(loaded))
    Bank(folder, counted, loaded[1])
    # of the set whose files did not fit, and of no other, cells are made again
    every = len(loaded[1].linears)
    assert method.widths[3] - made == every - len(finished)


@pytest.mark.usefixtures("unforeseen")
def test_finalized_weights_go_on_when_there_is_room(
    disk: Path, tmp_path: Path, loaded: Loaded
) -> None:
    wanted = assigned(loaded[1], Choice(2, "awq"))
    whole = in_sequence(tmp_path / "whole", wanted, apart(loaded))
    fill(disk, 110_000)
    with pytest.raises(FullError) as caught:
        in_sequence(disk, wanted, apart(loaded))
    folder = disk / wanted.digest
    assert str(folder) in str(caught.value)
    assert "XDG_DATA_HOME" in str(caught.value)
    assert not drafts(disk)
    empty(disk)
    assert in_sequence(disk, wanted, apart(loaded)).sums == whole.sums
    assert Finalized.open(folder).changed_sums == whole.changed_sums


def test_activations_that_do_not_fit_name_the_folder_and_their_size(disk: Path) -> None:
    spool = Spool(disk, "cpu", limit=0)
    spool.append({"hidden": torch.zeros(2**19)})
    with pytest.raises(FullError, match=r"a batch of activations takes 8\.39 MB") as e:
        spool.append({"hidden": torch.zeros(2**21)})
    assert str(disk) in str(e.value)
    assert "--calibration" in str(e.value)
    assert names(disk) == set()


@pytest.mark.parametrize("says_so", [True, False])
def test_an_export_leaves_what_was_there_and_names_what_is_needed(
    disk: Path, made: Checkpoint, monkeypatch: pytest.MonkeyPatch, says_so: bool
) -> None:
    monkeypatch.setattr("allocator.exporters._driver.check_room", lambda *_: None)
    plan = plan_json(StudySpec("16", "vqav2"), made.spec, made.allocation)
    export, out = Export(plan, lambda: made), disk / "out"
    write_export(export, Dense(), out, fmt="dense", watch=Silent())
    before = names(disk)
    fill(disk, 8192)

    class Mute(Dense):
        """Fails without a reason, as numpy does on a full disk."""

        def write(self, *given: Any) -> None:
            try:
                super().write(*given)
            except Exception:
                raise OSError("1234 requested and 0 written") from None

    exporter = Dense() if says_so else Mute()
    size = stored_size(made.spec, made.scheme, made.allocation).model_bytes
    said = f"the disk of {disk} is full: out takes {in_bytes(size)}: free some"
    with pytest.raises(FullError, match=re.escape(said)):
        write_export(export, exporter, out, fmt="dense", watch=Silent(), force=True)
    assert names(disk) == before
    empty(disk)
    write_export(export, Dense(), out, fmt="dense", watch=Silent(), force=True)
    assert names(disk) == before


def test_a_report_stays_as_it_was(disk: Path) -> None:
    out = disk / "study.html"
    write_atomically(out, lambda: b"before")
    fill(disk, 4096)
    with pytest.raises(FullError, match=rf"{disk} is full: study\.html takes 2\.1 MB"):
        write_atomically(out, lambda: bytes(2 * MB))
    assert out.read_bytes() == b"before"
    assert names(disk) == {"study.html"}


def test_the_drawn_world_is_whole_or_not_there(disk: Path) -> None:
    with pytest.raises(FullError, match="the drawn world takes 23 MB"):
        ensure_world(disk)
    assert names(disk) == set()


def test_what_cannot_be_remembered_is_only_read_again(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
    (tmp_path / "a.jpg").write_bytes(b"a")
    fill(disk, 0)
    assert len(Contents().of([tmp_path / "a.jpg"], "pictures")) == 1
    assert not drafts(disk)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "disk is full: free some"),
        (OSError(28, "No space left", "/d/a.db"), "the disk of /d is full: free some"),
        (OSError(5, "Input/output error"), "a file or disk failed: Input/output error"),
        (OSError(5, "Input/output error", "/data/a"), "/data/a: Input/output error"),
        (MemoryError(), "there is not enough memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
            "you tried to",
        ),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory"),
        (ImportError("a.so: failed to map segment from shared object"), "a.so"),
        (torch.OutOfMemoryError("Tried to allocate 2 GiB. out of memory"), "2 GiB"),
    ],
)
def test_wherever_it_happens_the_user_sees_a_sentence(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise error

    monkeypatch.setattr("allocator.report.doctor.examine", broken)
    found = CliRunner().invoke(main, ["doctor"])
    assert found.exit_code == 2
    assert found.output.startswith("allocate: ")
    assert said in found.output
    assert found.output.count("\n") == 1


def test_a_file_that_cannot_be_read_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Contents().of([tmp_path / "none.jpg"], "pictures")
