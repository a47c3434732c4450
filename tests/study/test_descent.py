from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.strategies._moves import scatter
from allocator.study.descent import descent
from allocator.study.journal import Journal
from tests.searches import asked_for, space_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec

FIRST, FURTHER = ("divergence", 32), ("divergence", 128)


def test_looks_of_one_proposal_descend_together(toy: ModelSpec, tmp_path: Path) -> None:
    space = space_of(toy)
    asked = asked_for().to_json()
    journal = Journal.create(f"{tmp_path}/studies.log", "study", "identity", asked)
    rng = np.random.default_rng(0)
    a, b, c, d = (scatter(space, rng) for _ in range(4))
    assert descent(journal, space) == {}
    journal.keep_looks(space, b.digest, "4", [(a, FIRST, 0.5), (b, FIRST, 0.4)])
    # looked at further for the next proposal: it was there before
    journal.keep_looks(space, c.digest, "4", [(a, FURTHER, 0.5), (c, FIRST, 0.3)])
    journal.keep_looks(space, d.digest, "5", [(d, FIRST, 0.2)])
    found = descent(journal, space)
    assert found == {a.digest: 0, b.digest: 0, c.digest: 1, d.digest: 2}
