from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.records import LINEAR_FISHER
from allocator.search.fidelity import fidelities, gradients
from allocator.search.finals import FEW, Contender
from allocator.search.linears import KEPT
from allocator.search.propose import propose
from allocator.search.run import baselines
from tests.searches import asked_for, drawn, search_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.spec import ModelSpec

TOTAL = 2 * FEW


def contender(
    toy: ModelSpec, at: int, kinds: Sequence[str] = ("measured",), **means: float
) -> Contender:
    scores = {name: (mean,) * TOTAL for name, mean in means.items()}
    allocation = drawn(toy, at + 1)[at]
    return Contender(allocation, list(kinds), 4.0, TOTAL, scores)


def finals_of(*contenders: Contender) -> Any:
    return SimpleNamespace(contenders=contenders, total=TOTAL)


def test_scores_of_the_bank_are_held_against_finalized_ones(toy: ModelSpec) -> None:
    rows = [(50.0, 60.0), (52.0, 70.0), (54.0, 65.0), (56.0, 75.0), (58.0, 80.0)]
    told = [
        contender(toy, at, bank=bank, finalized=finalized)
        for at, (bank, finalized) in enumerate(rows)
    ]
    # neither a uniform allocation nor one that stopped early takes part
    uniform = contender(toy, 6, ["uniform"], bank=90.0, finalized=1.0)
    stopped = contender(toy, 7, bank=90.0, finalized=1.0)
    stopped.size = FEW
    by_kind = {
        (each.kind, each.samples, each.predicted): each
        for each in fidelities(finals_of(*told, uniform, stopped))
    }
    found = by_kind["score", TOTAL, "finalized"]
    assert (found.count, found.controls) == (5, 0)
    # one neighbouring pair of five stands the other way round
    assert found.spearman == pytest.approx(0.9, abs=0.1)
    # all samples alike: the few say what the others do
    assert by_kind["finalized score", FEW, "finalized"].spearman > 0.9
    # nothing was tuned
    assert len(by_kind) == 2


def test_few_samples_are_judged_by_the_others_alone(toy: ModelSpec) -> None:
    told = []
    for at in range(6):
        each = contender(toy, at, finalized=0.0)
        # evenly spaced: every second sample is one of the few
        each.scores["finalized"] = (float(at), float(-at)) * FEW
        told.append(each)
    (found,) = fidelities(finals_of(*told))
    assert found.samples == FEW
    assert found.spearman < -0.9


def test_finalized_scores_are_held_against_tuned_ones(toy: ModelSpec) -> None:
    told = [contender(toy, at, finalized=10.0 - at, tuned=at) for at in range(5)]
    kinds = {(each.predicted, each.count) for each in fidelities(finals_of(*told))}
    assert kinds == {("finalized", 5), ("tuned", 5)}
    assert fidelities(finals_of(*told[:1])) == ()


def test_summed_gradients_are_held_against_scores_of_proposals(
    toy: ModelSpec, tmp_path: Path
) -> None:
    search = search_of(toy, f"{tmp_path}/studies.log", asked_for(trials=6, refine=True))
    baselines(search)
    propose(search)
    (found,) = gradients(search)
    assert (found.samples, found.predicted) == (80, "bank")
    # damages are what scores are made of here
    assert found.spearman is not None
    assert found.spearman > 0.5
    search.journal.set_attribute(KEPT + LINEAR_FISHER, None)
    assert gradients(search) == ()
