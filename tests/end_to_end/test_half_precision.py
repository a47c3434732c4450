"""A model that overflows at 2 bits in half precision is searched like any other."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.bench.loading import open_bench
from allocator.bench.prepare import prepare
from allocator.bench.probes import damages
from allocator.core.allocation import Allocation, Choice
from allocator.core.clock import Clock
from allocator.core.study import StudySpec
from allocator.search.run import run_prepared
from allocator.study.journal import Journal
from allocator.study.making import kept_with
from tests.families.half import half_precision, overflowing
from tests.searches import Told
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# of the group whose numbers overflow
GROUP, TWO = "vision.middle.ff", Choice(2, "uniform")


@pytest.fixture(scope="module")
def asked(
    tmp_path_factory: pytest.TempPathFactory, drawn_world: Path
) -> Iterator[StudySpec]:
    """A small search in half precision; of the uniform allocations 2 bits alone fit."""
    folder = tmp_path_factory.mktemp("half")
    with homes(folder, drawn_world), half_precision():
        yield StudySpec(
            budget="3.6",
            task="vqav2",
            model=str(overflowing(folder / "model")),
            data=str(drawn_world),
            fraction=0.05,
            methods=("uniform",),
            widths=(2, 4, 8),
            calibration=16,
            trials=2,
        )


def test_it_is_fine_at_full_precision_and_overflows_at_two_bits(
    asked: StudySpec,
) -> None:
    setup = prepare(asked, watch=Told())
    bench = open_bench(setup, Told())
    assert {p.dtype for p in bench.model.module.parameters()} == {torch.float16}
    few = setup.samples["search"][:128]
    space = setup.space
    assert bench.fault(few) is None
    assert bench.score(space.full, few).mean > 90
    for bits, overflows in ((2, True), (4, False), (8, False)):
        each = Allocation.uniform(setup.model, Choice(bits, "uniform"))
        assert math.isnan(bench.divergence(each, few)) == overflows
    found = damages(bench, setup.samples["calibration"], space.choices)
    assert all(map(math.isfinite, found.values()))
    others = sum(value for at, value in found.items() if at != (GROUP, TWO))
    assert found[GROUP, TWO] > others


@pytest.mark.slow
@pytest.mark.nightly
def test_its_search_comes_to_a_recommendation_that_does_without(
    asked: StudySpec,
) -> None:
    watch = Told()
    setup = prepare(asked, watch=watch)
    found = run_prepared(setup, watch, Clock())
    json.dumps(found.to_json(), allow_nan=False)
    assert found.allocation[GROUP] != TWO
    assert found.versus is not None
    assert found.versus.mean > 0
    # what overflows cannot be quantized in sequence, and keeps its weights
    kept = [line for line in watch.said if "keeps the bank's weights" in line]
    assert len(kept) == len(set(kept))
    assert any("the uniform allocation 2/uniform" in line for line in kept)
    cause = "calibration activations are infinite or not numbers"
    assert all(cause in line for line in kept)
    journal = Journal.load(None, found.study)
    json.dumps(kept_with(journal.study), allow_nan=False)
