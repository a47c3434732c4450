from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Choice
from allocator.core.ports import Siblings
from allocator.core.weights import weight_of
from allocator.families._any_resolution import prompts
from quant.assignment import Assignment
from quant.cells import file_of, read_cell
from quant.observing import together
from quant.passes import Passes
from quant.sequential import quantize_in_sequence
from quant.tuning import Tuning
from tests.quant.by_hand import by_hand, effective
from tests.quant.mixtures import BLOCK, Mixture, leaves, mixture, sourced, unused
from tests.quant.sequences import FULL, recipe_of
from tests.states import logits_of

if TYPE_CHECKING:
    from pathlib import Path

    from quant.finalized import Finalized

GPTQ, AWQ, ROUND = Choice(2, "gptq"), Choice(3, "awq"), Choice(3, "uniform")


def assigned(model: Mixture, *choices: Choice, **changes: Any) -> Assignment:
    """Choices dealt out in turn to the groups of a mixture's language model."""
    language = [g for g in model.spec.groups if g.key.startswith("language")]
    dealt = {
        linear.name: choices[at % len(choices)]
        for at, group in enumerate(language)
        for linear in group.linears
    }
    full = {linear.name: FULL for linear in model.spec.linears}
    return Assignment(recipe_of(), {**full, **dealt}, **changes)


def finalized(
    root: Path,
    wanted: Assignment,
    model: Mixture,
    passes: Passes | None = None,
    batches: int = 1,
) -> Finalized:
    source = sourced(model, *[prompts()] * batches)
    return quantize_in_sequence(root, wanted, model.spec.linears, source, passes=passes)


def test_sets_of_a_pool_stand_in_one_row() -> None:
    dense = [Siblings((name,)) for name in "ab"]
    up, down = ([Siblings((f"{s}.{n}",), pool=s) for n in range(2)] for s in "ud")
    rows = together([*dense, *up, *down, dense[0]])
    assert rows == [[dense[0]], [dense[1]], up, down, [dense[0]]]


@pytest.mark.parametrize(
    ("kind", "corrected"), [("eager", False), ("grouped_mm", True)]
)
def test_it_is_what_replacing_experts_one_at_a_time_gives(
    tmp_path: Path, kind: str, corrected: bool
) -> None:
    exact: Any = mixture()
    exact.module.set_experts_implementation(kind)
    wanted = assigned(exact, GPTQ, AWQ, corrected=corrected)
    # the experts of the second block, behind those of the first
    second = {n: GPTQ for n in wanted.choices if "layers.1.mlp.experts" in n}
    wanted = replace(wanted, choices={**wanted.choices, **second})
    found = finalized(tmp_path, wanted, exact.apart())
    naive = by_hand(exact.apart(), exact, wanted, prompts())
    assert set(naive) == set(found.keys) == set(wanted.keys)
    assert {AWQ, GPTQ} == {c for n, c in wanted.choices.items() if ".experts." in n}
    for linear in exact.spec.linears:
        if linear.name in naive:
            weight = found.weight(linear, wanted.choices[linear.name])
            assert torch.equal(weight, effective(naive[linear.name])), linear.name


def test_each_experts_group_has_its_choice(tmp_path: Path) -> None:
    model = mixture()
    experts = [n for n in assigned(model, FULL).choices if f"{BLOCK}.mlp.experts" in n]
    choices = {**assigned(model, FULL).choices, **dict.fromkeys(experts, GPTQ)}
    # one matrix of one expert stays as it is
    choices[experts[0]] = FULL
    found = finalized(tmp_path, Assignment(recipe_of("gptq"), choices), model)
    assert set(found.keys) == set(experts[1:])
    for name in found.keys:
        cell = read_cell(file_of(found.folder, name), found.keys[name])
        assert cell.codes.shape == weight_of(model.module, name).shape
        assert set(cell.codes.flatten().tolist()) == {0, 1, 2, 3}


def test_full_precision_is_as_it_was(tmp_path: Path) -> None:
    model = mixture()
    logits, before = logits_of(model, prompts()), list(leaves(model.module))  # type: ignore[arg-type]
    finalized(tmp_path, assigned(model, GPTQ), model)
    for (name, place, value), (_, now, own) in zip(
        before, leaves(model.module), strict=True
    ):
        assert (place, name) == (now, name)
        assert torch.equal(value, own)
    assert torch.equal(logits, logits_of(model, prompts()))  # type: ignore[arg-type]


def test_what_is_taken_over_is_what_would_have_been_made(tmp_path: Path) -> None:
    model, passes = mixture(), Passes()
    first = assigned(model, GPTQ, ROUND)
    finalized(tmp_path / "shared", first, model, passes)
    whole = passes.stages
    last = [n for n in first.choices if "layers.1.mlp" in n and "language" in n]
    later = replace(first, choices={**first.choices, **dict.fromkeys(last, AWQ)})
    shared = finalized(tmp_path / "shared", later, model, passes)
    assert passes.stages == whole + 1
    alone = finalized(tmp_path / "alone", later, model)
    assert replace(shared, folder=alone.folder) == alone


def test_calls_too_large_to_keep_are_seen_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = mixture()
    wanted = assigned(model, GPTQ)
    kept = finalized(tmp_path / "kept", wanted, model, batches=2)
    monkeypatch.setattr("quant.full_pass.READ_BYTES", 0)
    monkeypatch.setattr("quant.streaming.HELD_BYTES", 0)
    again = finalized(tmp_path / "again", wanted, model, batches=2)
    assert replace(again, folder=kept.folder) == kept


def test_tuning_leaves_experts_as_they_were(tmp_path: Path) -> None:
    model = mixture()
    plain = assigned(model, Choice(2, "uniform"))
    block = [n for n in plain.choices if n.startswith(BLOCK)]
    only = {n: c if n in block else FULL for n, c in plain.choices.items()}
    plain = replace(plain, choices=only)
    learned = replace(plain, tune=Tuning(24))
    found = [
        finalized(tmp_path, wanted, model, batches=4) for wanted in (plain, learned)
    ]
    changed = {n for n in block if found[0].sums[n] != found[1].sums[n]}
    assert changed
    assert not any(".experts." in name for name in changed)


def test_an_expert_that_saw_nothing_is_quantized_by_what_all_read(
    tmp_path: Path,
) -> None:
    exact: Any = unused(mixture(), 3)
    experts = [n for n in assigned(exact, FULL).choices if ".0.mlp.experts" in n]
    choices = {**assigned(exact, FULL).choices, **dict.fromkeys(experts, GPTQ)}
    wanted = Assignment(recipe_of("gptq"), choices)
    found = finalized(tmp_path, wanted, exact.apart())
    naive = by_hand(exact.apart(), exact, wanted, prompts())
    for linear in exact.spec.linears:
        if linear.name in naive:
            weight = found.weight(linear, GPTQ)
            assert torch.equal(weight, effective(naive[linear.name])), linear.name
