from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from allocator.search.propose import propose
from allocator.search.run import baselines
from allocator.study.looks import DIVERGENCE
from tests.searches import FakeBench, asked_for, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.allocation import Allocation
    from allocator.core.spec import ModelSpec
    from allocator.search.running import Search


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


def searched(toy: ModelSpec, url: str, bench: Any = None, **options: Any) -> Search:
    search = search_of(toy, url, asked_for(**options), bench)
    baselines(search)
    propose(search)
    return search


class Third(FakeBench):
    """Is interrupted when it is to score its third proposal on the search set."""

    def score(self, allocation: Allocation, some: Any) -> Any:
        full = [n for kind, _, n in self.runs if (kind, n) == ("score", 400)]
        # the baselines come first
        if len(some) == 400 and len(full) == 5 + 2:
            raise KeyboardInterrupt
        return super().score(allocation, some)


def controls(search: Search) -> list[bool]:
    return [r.control for r in search.records if r.kind == "proposal"]


def test_controls_are_marked_and_a_killed_one_is_made_up_for(
    toy: ModelSpec, url: str, tmp_path: Path
) -> None:
    whole = searched(toy, f"{tmp_path}/whole.log", trials=5)
    # behind the first two, then every other one
    assert controls(whole) == [False, False, True, False, True]
    space = whole.setup.space
    marked = [e for e in whole.journal.entries(space) if e.about.get("control")]
    assert {e.about["kind"] for e in marked} == {"proposal", "candidate"}
    assert all(whole.rungs.seen(e.allocation)[DIVERGENCE, 128] for e in marked)

    with pytest.raises(KeyboardInterrupt):
        searched(toy, url, Third(), trials=5)
    again = searched(toy, url, trials=5)
    assert controls(again) == [False, False, True, False, True]


@pytest.mark.parametrize("options", [{"rungs": False}, {"strategy": "random"}])
def test_where_no_look_chooses_there_are_no_controls(
    toy: ModelSpec, url: str, options: dict[str, Any]
) -> None:
    assert not any(controls(searched(toy, url, trials=4, **options)))
