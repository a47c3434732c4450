from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Choice
from allocator.core.plugins import load
from quant.bank import MANIFEST
from quant.build import Source
from quant.cells import file_of
from quant.finalized import Finalized
from quant.passes import Passes, beginnings
from quant.sequential import quantize_in_sequence
from quant.tuning import Tuning
from tests.quant.banks import Loaded, apart, prompts
from tests.quant.sequences import FULL, assigned
from tests.states import made

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.core.ports import State
    from quant.assignment import Assignment

GPTQ, AWQ, ROUND = Choice(2, "gptq"), Choice(3, "awq"), Choice(3, "uniform")


class Run:
    """Finalizations of one model, and how often its inputs were made."""

    def __init__(self, loaded: Loaded, state: State | None = None) -> None:
        self.model, self.spec = loaded
        # of a family that has an image for each prompt, in two batches
        self.batches = [state] if state else halves(prompts())
        self.prepared = 0

    def __call__(
        self,
        root: Path,
        wanted: Assignment,
        passes: Passes | None = None,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> Finalized:
        def batches(_: Any) -> list[State]:
            self.prepared += 1
            return [dict(batch) for batch in self.batches]

        source = Source(lambda: self.model, batches)
        return quantize_in_sequence(
            root, wanted, self.spec.linears, source, progress, passes
        )

    def changed(self, wanted: Assignment, at: int, choice: Choice) -> Assignment:
        """Another choice for the linears of one of the stages that have any."""
        stages = [s for s in self.model.stages() if set(s.linears) & {*wanted.choices}]
        own = {n for n in stages[at].linears if n in wanted.choices}
        return replace(wanted, choices={**wanted.choices, **dict.fromkeys(own, choice)})


def halves(state: State) -> list[State]:
    return [{key: value[n : n + 1] for key, value in state.items()} for n in range(2)]


def same(found: Finalized, other: Finalized) -> bool:
    """Whether all bits are, whatever the folder."""
    return replace(found, folder=other.folder) == other


@pytest.fixture
def run(loaded: Loaded) -> Run:
    return Run(apart(loaded))


# linears called twice in a stage; a Q-Former; norms that add 1; a tied head
@pytest.mark.parametrize(
    ("family", "variant"),
    [("llava", "1.5"), ("blip2", "opt"), ("qwen_vl", "3"), ("paligemma", "2")],
)
def test_what_is_taken_over_is_what_would_have_been_made(
    tmp_path: Path, family: str, variant: str
) -> None:
    kind, folder = load("allocator.families", family), tmp_path / "model"
    state = made(kind, folder, variant)
    spec = kind.spec(folder, include=("head", "embeddings"))
    run = Run((kind.load(folder, "cpu", mapped=True), spec), state)
    first = assigned(spec, AWQ, GPTQ, AWQ, FULL, ROUND)
    passes = Passes()
    run(tmp_path / "shared", first, passes)
    for at, choice in ((-1, ROUND), (0, GPTQ), (2, ROUND)):
        wanted = run.changed(first, at, choice)
        found = run(tmp_path / "shared", wanted, passes)
        assert same(found, run(tmp_path / "alone", wanted)), (at, choice)


def test_awq_everywhere_is_the_same_in_whatever_order(run: Run, tmp_path: Path) -> None:
    first = assigned(run.spec, AWQ)
    several = [first, *(run.changed(first, at, GPTQ) for at in (-1, 1))]
    forth, back = Passes(), Passes(20_000)
    found = [run(tmp_path / "forth", each, forth) for each in several]
    others = [run(tmp_path / "back", each, back) for each in reversed(several)]
    alone = [run(tmp_path / "alone", each) for each in several]
    assert all(f.changed_sums for f in found)
    for one, two, three in zip(found, reversed(others), alone, strict=True):
        assert same(one, two)
        assert same(one, three)


@pytest.mark.parametrize(("limit", "prepared"), [(2**28, 1), (0, 3)])
def test_only_stages_from_the_first_change_on_are_quantized(
    run: Run, tmp_path: Path, limit: int, prepared: int
) -> None:
    first, passes = assigned(run.spec, ROUND), Passes(limit)
    run(tmp_path, first, passes)
    whole = passes.stages
    run(tmp_path, run.changed(first, -1, GPTQ), passes)
    assert passes.stages == whole + 1
    run(tmp_path, run.changed(first, -2, GPTQ), passes)
    assert passes.stages == whole + 3
    assert run.prepared == prepared


def test_a_choice_not_made_behind_the_last_quantized_stage_changes_nothing(
    run: Run, tmp_path: Path
) -> None:
    # only vision first, then all of it: the shorter pass ends where the longer goes on
    whole = assigned(run.spec, GPTQ)
    vision = {n: c if "vision" in n else FULL for n, c in whole.choices.items()}
    passes = Passes()
    run(tmp_path, replace(whole, choices=vision), passes)
    assert same(run(tmp_path, whole, passes), run(tmp_path / "alone", whole))


def test_other_settings_share_nothing(run: Run, tmp_path: Path) -> None:
    wanted, passes = assigned(run.spec, GPTQ), Passes()
    run(tmp_path, wanted, passes)
    plain = replace(wanted, corrected=False)
    stages = run.model.stages()
    assert not set(beginnings(wanted, stages)) & set(beginnings(plain, stages))
    assert same(run(tmp_path, plain, passes), run(tmp_path / "alone", plain))


def test_plain_and_tuned_weights_in_turn_are_what_they_are_alone(
    run: Run, tmp_path: Path
) -> None:
    run.batches *= 2
    plain, passes = assigned(run.spec, Choice(2, "uniform")), Passes()
    tuned = replace(plain, tune=Tuning(12))
    late = run.changed(tuned, -1, GPTQ)
    found = [run(tmp_path / "shared", each, passes) for each in (plain, tuned, late)]
    # twice all of them, and the last one
    assert passes.stages % 2 == 1
    for each, wanted in zip(found, (plain, tuned, late), strict=True):
        assert same(each, run(tmp_path / "alone", wanted))
    assert found[0].sums != found[1].sums


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    # as a disk would: whoever shares the file has it too
    file.write_bytes(bytes(content))


def removed(file: Path) -> None:
    shutil.rmtree(file.parent)


@pytest.mark.parametrize("harm", [flipped, removed])
def test_what_is_damaged_or_gone_is_not_taken_over(
    run: Run, tmp_path: Path, harm: Callable[[Path], Any]
) -> None:
    first, passes = assigned(run.spec, AWQ), Passes()
    found = run(tmp_path, first, passes)
    harm(file_of(found.folder, run.spec.linears[0].name))
    wanted = run.changed(first, -1, ROUND)
    again = run(tmp_path, wanted, passes)
    assert Finalized.open(again.folder) == again
    assert same(again, run(tmp_path / "alone", wanted))


def test_a_file_system_without_links_has_copies(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("not supported")

    first, passes = assigned(run.spec, GPTQ), Passes()
    run(tmp_path, first, passes)
    wanted = run.changed(first, -1, ROUND)
    linked = run(tmp_path, wanted, passes)
    shutil.rmtree(linked.folder)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    copied = run(tmp_path, wanted, passes)
    assert copied == linked
    name = run.spec.linears[0].name
    assert file_of(copied.folder, name).stat().st_nlink == 1


def test_a_run_that_dies_behind_what_it_took_over_leaves_nothing_whole(
    run: Run, tmp_path: Path
) -> None:
    class KilledError(Exception):
        pass

    def die(done: int, total: int) -> None:
        if done == total:
            raise KilledError

    first, passes = assigned(run.spec, GPTQ), Passes()
    before = run(tmp_path, first, passes)
    wanted = run.changed(first, -1, ROUND)
    with pytest.raises(KilledError):
        run(tmp_path, wanted, passes, die)
    folder = tmp_path / wanted.digest
    assert list(folder.glob("*.safetensors"))
    assert not (folder / MANIFEST).exists()
    assert same(run(tmp_path, wanted, passes), run(tmp_path / "alone", wanted))
    assert Finalized.open(before.folder) == before


def test_inputs_too_large_to_keep_are_read_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = assigned(run.spec, AWQ, GPTQ)
    kept = run(tmp_path / "kept", wanted)
    monkeypatch.setattr("quant.full_pass.READ_BYTES", 0)
    assert same(run(tmp_path / "again", wanted), kept)


def test_the_model_is_as_it_was_in_between(run: Run, tmp_path: Path) -> None:
    named: Sequence[Any] = list(run.model.module.named_parameters())
    before = {name: (p.data_ptr(), p.clone()) for name, p in named}
    run(tmp_path, assigned(run.spec, AWQ), Passes())
    for name, parameter in named:
        assert parameter.data_ptr() == before[name][0]
        assert torch.equal(parameter, before[name][1])
