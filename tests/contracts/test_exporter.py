"""What every export format must do, found without being listed."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.allocation import Allocation, Choice, Scheme, stored_size
from allocator.core.errors import AllocateError, FullError, SpecError
from allocator.core.plan import plan_json
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.exporters import exporter_of, formats
from allocator.exporters._driver import write_export
from allocator.exporters._export import Export
from tests.exporters.models import checkpoint_of, random_model, some_samples
from tests.exporters.pieces import save_pieces
from tests.exporters.plans import unasked

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.exporting import Exporter
    from allocator.core.spec import ModelSpec
    from allocator.exporters._checkpoint import Checkpoint

# one of them suits every format: grids, and widths of the groups in turn
GRIDS = (
    (Scheme(), (2, 3, 4, 5, 6, 8, 16)),
    (Scheme(32, symmetric=True, target="llama.cpp"), (4, 5, 8, 16)),
)
EACH = pytest.mark.parametrize("name", formats())


def exporter(name: str) -> Exporter:
    found: Exporter = exporter_of(name)
    return found


@pytest.fixture
def plan(toy: ModelSpec) -> dict[str, Any]:
    """Three widths, two methods, one group at 16 bits; from the bank's cells."""
    picks = (Choice(2, "gptq"), Choice(4, "awq"), Choice(8, "gptq"), Choice(16))
    chosen = {key: picks[at % len(picks)] for at, key in enumerate(toy.keys)}
    allocation = Allocation.of(toy.keys, chosen)
    return plan_json(StudySpec("4.0", "vqav2"), toy, allocation)


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def export_of(name: str, plan: dict[str, Any], source: Path) -> Export:
    """A plan for a format that writes plans, a whole checkpoint for any other."""
    bare = Export(plan, unasked, command="allocate export study")
    if exporter(name).layout(bare) is None:
        return bare
    return checkpoint_export(name, source)


def _same(made: Checkpoint) -> Checkpoint:
    return made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, and pictures beside it."""
    folder = tmp_path_factory.mktemp("random")
    random_model(folder / "model", "qwen2.5-vl", 256)
    # a tokenizer that llama.cpp's converter knows
    save_pieces(folder / "model")
    some_samples(folder / "pictures")
    return folder


def checkpoint_export(name: str, source: Path) -> Export:
    """The random model in the first grid that the format takes."""
    samples = some_samples(source / "pictures")
    said = []
    for scheme, widths in GRIDS:
        made = checkpoint_of(source / "model", widths, scheme=scheme, samples=samples)
        asked = StudySpec(
            *("16", "vqav2"),
            target=scheme.target,
            group_size=scheme.group_size,
            symmetric=scheme.symmetric,
            widths=widths,
        )
        plan = plan_json(asked, made.spec, made.allocation)
        export = Export(plan, partial(_same, made), command="allocate export study")
        try:
            exporter(name).check(export)
        except SpecError as error:
            said.append(str(error))
            continue
        return export
    if any("pip install" in each for each in said):
        pytest.skip(said[0])
    raise AssertionError(said)


def write(name: str, export: Export, out: Path, *, force: bool = False) -> Any:
    return write_export(
        export, exporter(name), out, fmt=name, watch=Silent(), force=force
    )


@EACH
def test_it_says_what_it_writes(name: str) -> None:
    told = exporter(name).description
    assert told
    assert "\n" not in told


@EACH
def test_it_writes_the_same_twice_and_nothing_is_left_over(
    name: str, plan: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    export = export_of(name, plan, source)
    before = deepcopy(dict(export.plan))
    found = write(name, export, tmp_path / "new" / "out")
    assert found["path"].startswith(str(tmp_path / "new" / "out"))
    once = contents(tmp_path / "new" / "out")
    with pytest.raises(SpecError, match="is not empty"):
        write(name, export, tmp_path / "new" / "out")
    write(name, export, tmp_path / "new" / "out", force=True)
    assert contents(tmp_path / "new" / "out") == once
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["out"]
    # the plan belongs to the study
    assert dict(export.plan) == before


@EACH
def test_what_it_claims_is_what_it_stores_and_reads(
    name: str, plan: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    export = export_of(name, plan, source)
    layout = exporter(name).layout(export)
    found = write(name, export, tmp_path / "out")
    if layout is None:
        assert "bytes" not in found
        return
    made = export.checkpoint
    size = stored_size(made.spec, made.scheme, made.allocation, layout)
    assert found["bytes"] == size.model_bytes
    assert found["bytes"] == exporter(name).stored(tmp_path / "out")
    assert found["loader"]
    assert found["linears"] == len(made.low)


@EACH
def test_its_card_says_how_to_load_it(
    name: str, plan: dict[str, Any], source: Path, tmp_path: Path
) -> None:
    export = export_of(name, plan, source)
    write(name, export, tmp_path / "mine")
    card = (tmp_path / "mine" / "README.md").read_text()
    (shown,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert "mine" in shown
    assert "{" + "out}" not in shown
    # wherever the folder is taken to
    assert str(tmp_path) not in shown
    compile(shown, "card", "exec")


@EACH
def test_a_write_that_fails_leaves_nothing(
    name: str,
    plan: dict[str, Any],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    export = export_of(name, plan, source)
    own = exporter(name)

    def failing(export: Export, out: Path, tick: Any) -> None:
        type(own).write(own, export, out, tick)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(own, "write", failing, raising=False)
    with pytest.raises(
        FullError, match=r"the disk of .* is full: out (does not fit|takes)"
    ):
        write(name, export, tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []


@EACH
def test_another_plan_is_another_export(
    name: str, plan: dict[str, Any], tmp_path: Path, toy: ModelSpec
) -> None:
    own = exporter(name)
    if own.layout(Export(plan, unasked)) is not None:
        pytest.skip("checkpoints are compared with their cells")
    write(name, Export(plan, unasked), tmp_path / "one")
    asked = StudySpec("4.0", "vqav2")
    other = plan_json(asked, toy, Allocation.uniform(toy, Choice(4, "gptq")))
    write(name, Export(other, unasked), tmp_path / "other")
    written = [contents(tmp_path / folder) for folder in ("one", "other")]
    for each in written:
        del each["README.md"]
    assert written[0] != written[1]


@EACH
def test_a_folder_that_cannot_be_is_refused_in_a_sentence(
    name: str, plan: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AllocateError) as caught:
        write(name, Export(plan, unasked), tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "file") in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"
