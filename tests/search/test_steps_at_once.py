"""Several proposals at once: asked for, raced and measured side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import SpecError
from allocator.search.propose import propose
from allocator.search.run import baselines
from tests.searches import asked_for, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec


def proposed(spec: ModelSpec, url: str, at_once: int) -> tuple[list[str], list[int]]:
    """Digests of the proposals, and how many were known when each was asked for."""
    asked = asked_for(trials=7, strategy="surrogate", at_once=at_once)
    search = search_of(spec, url, asked)
    known: list[int] = []
    ask = search.judge

    def judged() -> None:
        known.append(len(search.records))
        ask()

    baselines(search)
    search.judge = judged  # type: ignore[method-assign]
    propose(search)
    space = search.setup.space
    entries = search.journal.entries(space)
    return [e.digest for e in entries if e.about["kind"] == "proposal"], known


def test_as_many_are_measured_and_each_but_once(toy: ModelSpec, tmp_path: Path) -> None:
    found, known = proposed(toy, f"sqlite:///{tmp_path}/x.db", 3)
    assert len(found) == len(set(found)) == 7
    # three, three and one: what they learn from are the proposals before
    assert [n - known[0] for n in known] == [0, 3, 6]


def test_one_at_a_time_knows_all_before(toy: ModelSpec, tmp_path: Path) -> None:
    found, known = proposed(toy, f"sqlite:///{tmp_path}/x.db", 1)
    assert len(set(found)) == 7
    assert [n - known[0] for n in known] == list(range(7))


@pytest.mark.parametrize("count", [0, -1, 513])
def test_another_number_is_refused(count: int) -> None:
    with pytest.raises(
        SpecError, match=f"proposals at once must be 1 to 512, not {count}"
    ):
        asked_for(at_once=count)
