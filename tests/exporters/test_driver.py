"""What was written is compared before it takes its place, and nothing else stays."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Budget, stored_size
from allocator.core.errors import ModelError, SpecError
from allocator.core.plan import plan_json
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.exporters import _export
from allocator.exporters._driver import write_export
from allocator.exporters._export import Export
from tests.exporters.dense import Dense, Read
from tests.exporters.models import checkpoint_of, random_model, some_samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from allocator.exporters._checkpoint import Checkpoint

WIDTHS = (2, 3, 4, 8, 16)


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("model")
    random_model(folder / "model", "llava", 128)
    samples = some_samples(folder / "pictures")
    return checkpoint_of(folder / "model", WIDTHS, samples=samples)


def same(made: Checkpoint) -> Checkpoint:
    return made


def export_of(made: Checkpoint, **more: Any) -> Export:
    asked = StudySpec("16", "vqav2", widths=WIDTHS)
    plan = plan_json(asked, made.spec, made.allocation)
    return Export(plan, partial(same, made), **more)


def write(
    export: Export, out: Path, exporter: Dense | None = None, **more: Any
) -> tuple[dict[str, Any], list[str]]:
    watch = Told()
    own = exporter or Dense()
    return write_export(export, own, out, fmt="dense", watch=watch, **more), watch.said


class Spoiled(Dense):
    """Reads another weight than was written of one linear."""

    def __init__(self, spoil: Callable[[str, Tensor], Tensor]) -> None:
        self.spoil = spoil

    def reopen(self, export: Export, out: Path) -> Read:
        return replace(super().reopen(export, out), spoil=self.spoil)


def test_what_is_read_is_what_was_written(made: Checkpoint, tmp_path: Path) -> None:
    found, said = write(export_of(made), tmp_path / "out")
    assert found["bytes"] == size_of(made)
    assert found["weights"] == 0
    assert found["logits"] == 0
    assert found["linears"] == len(made.low)
    assert set(found["codes"]) == {2, 3, 4, 8}
    assert said == []
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    for file in (tmp_path / "out").iterdir():
        assert file.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda weight: weight + 1e-6, "0 of"),
        (lambda weight: weight.flip(0), "codes differ"),
        (lambda weight: weight[:-1], "was written as"),
        (lambda weight: weight * torch.nan, "codes differ"),
    ],
    ids=["moved", "turned", "cut", "no numbers"],
)
def test_a_weight_that_reads_otherwise_is_named_and_nothing_stays(
    made: Checkpoint,
    tmp_path: Path,
    change: Callable[[Tensor], Tensor],
    said: str,
) -> None:
    second, third = list(made.low)[1:3]

    def spoil(name: str, weight: Tensor) -> Tensor:
        return change(weight) if name in (second, third) else weight

    with pytest.raises(ModelError) as caught:
        write(export_of(made), tmp_path / "new" / "out", Spoiled(spoil))
    assert second in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_other_logits_are_refused_though_all_weights_agree(
    made: Checkpoint, tmp_path: Path
) -> None:
    class Astray(Read):
        def logits(self, samples: Any) -> Tensor:
            return super().logits(samples) + 0.01

    class Other(Dense):
        def reopen(self, export: Export, out: Path) -> Read:
            return Astray(export.checkpoint, out)

    with pytest.raises(ModelError, match="logits of a reader of the tests differ by"):
        write(export_of(made), tmp_path / "out", Other())
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_does_not_run_is_told_of(
    made: Checkpoint, tmp_path: Path
) -> None:
    class Still(Read):
        def logits(self, samples: Any) -> Any:
            del samples

    class Other(Dense):
        def reopen(self, export: Export, out: Path) -> Read:
            return Still(export.checkpoint, out)

    found, said = write(export_of(made), tmp_path / "out", Other())
    assert found["logits"] is None
    (line,) = said
    assert "logits are not compared: what read it again does not run" in line


def test_logits_of_a_large_model_are_never_asked_for(
    made: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_export, "MEMORY", 0)
    export = export_of(made)
    assert export.large
    found, said = write(export, tmp_path / "out")
    assert found["logits"] is None
    assert "too large" in said[0]


def test_a_size_other_than_claimed_is_refused(made: Checkpoint, tmp_path: Path) -> None:
    class Lost(Dense):
        def stored(self, out: Path) -> int:
            return super().stored(out) - 2

    with pytest.raises(ModelError, match=r"was to store [\d,]+ bytes and has stored"):
        write(export_of(made), tmp_path / "out", Lost())
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_measured_otherwise_are_refused(
    made: Checkpoint, tmp_path: Path
) -> None:
    near = replace(made, measured=made.weight)
    found, _ = write(export_of(near), tmp_path / "near")
    assert found["measured"] == 0
    far = replace(made, measured=lambda name: made.weight(name) * 1.5)
    with pytest.raises(ModelError, match=r"allowed: 0\.002"):
        write(export_of(far), tmp_path / "far")
    assert not (tmp_path / "far").exists()


def size_of(made: Checkpoint) -> int:
    return stored_size(made.spec, made.scheme, made.allocation).model_bytes


class Padded(Dense):
    """Says that it stores as transformers does, which is more at 3 bits."""

    def layout(self, export: Export) -> str:
        del export
        return "transformers"

    def stored(self, out: Path) -> int:
        return super().stored(out) + self.more

    more = 0


def padded(made: Checkpoint) -> Padded:
    own = Padded()
    scheme, allocation = made.scheme, made.allocation
    size = stored_size(made.spec, scheme, allocation, "transformers")
    own.more = size.model_bytes - size_of(made)
    assert own.more > 0
    return own


def test_a_format_that_stores_more_than_the_budget_says_what_had_fitted(
    made: Checkpoint, tmp_path: Path
) -> None:
    own = padded(made)
    export = export_of(made, limit=Budget(size_of(made) + own.more - 10, "bytes"))
    with pytest.raises(SpecError) as caught:
        write(export, tmp_path / "out", own)
    told = str(caught.value)
    assert f"{size_of(made) + own.more:,} bytes" in told
    assert "10 more than the budget" in told
    assert "--target transformers" in told
    assert "--force" in told
    assert list(tmp_path.iterdir()) == []
    found, said = write(export, tmp_path / "out", own, force=True)
    assert found["over_budget"] == 10
    assert "10 more than the budget" in said[0]


def test_more_bytes_within_the_budget_are_told_of(
    made: Checkpoint, tmp_path: Path
) -> None:
    own = padded(made)
    export = export_of(made, limit=Budget(size_of(made) + own.more, "bytes"))
    found, said = write(export, tmp_path / "out", own)
    assert found["over_budget"] == 0
    assert f"stores {own.more:,} bytes more than the search counted" in said[0]
    assert "--target transformers" in said[0]


def test_a_budget_of_what_is_quantized_counts_that_alone(
    made: Checkpoint, tmp_path: Path
) -> None:
    size = stored_size(made.spec, made.scheme, made.allocation)
    limit = Budget(size.quantized_bytes - 1, "bytes", "quantized")
    with pytest.raises(SpecError, match="1 more than the budget"):
        write(export_of(made, limit=limit), tmp_path / "out")


def test_an_interrupted_export_leaves_what_was_there(
    made: Checkpoint, tmp_path: Path
) -> None:
    class Interrupted(Dense):
        def write(self, export: Export, out: Path, tick: Any) -> None:
            super().write(export, out, tick)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(export_of(made), tmp_path / "new" / "er" / "out", Interrupted())
    assert list(tmp_path.iterdir()) == []
    write(export_of(made), tmp_path / "out")
    before = {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()}
    with pytest.raises(KeyboardInterrupt):
        write(export_of(made), tmp_path / "out", Interrupted(), force=True)
    assert {f.name: f.read_bytes() for f in (tmp_path / "out").iterdir()} == before
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
