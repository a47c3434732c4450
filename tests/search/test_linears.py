from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench.sensitivity import Sensitivity
from allocator.core.records import LINEAR_ADDITIVE, LINEAR_RIVALS
from allocator.core.scheme import Scheme
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.search.linears import KEPT, linear_rivals, linear_tables
from allocator.search.rivals import rivals
from allocator.strategies._knapsack import summed
from tests.conftest import toy_linears
from tests.searches import FakeBench, Told, asked_for, damage_of, search_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.core.allocation import Choice
    from allocator.search.running import Search


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"{tmp_path}/studies.log"


class Grouped(FakeBench):
    """Allocations of any grouping are the same to it; it has a spec."""

    spec: Any = None

    def over(self, spec: ModelSpec) -> Grouped:
        self.spec = spec
        return self


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is measured of single linears, in order: tables are by a formula."""
    told: list[str] = []

    def table(spec: ModelSpec, choices: Any) -> dict[tuple[str, Choice], float]:
        return {
            (key, choice): 1 / choice.bits for key in spec.keys for choice in choices
        }

    def sensitivity(bench: Any, some: Any, choices: Any, _: int, tick: Any) -> Any:
        told.append(f"gradients of {len(some)}")
        tick(1)
        return Sensitivity(*2 * [table(bench.spec, choices)])

    def few(bench: Any, some: Any, choices: Any, _: Any, tick: Any, found: Any) -> Any:
        told.append(f"probes of {len(some)}")
        found |= table(bench.spec, choices[:1])
        tick(len(found))
        return table(bench.spec, choices)

    monkeypatch.setattr("allocator.bench.sensitivity.sensitivity", sensitivity)
    monkeypatch.setattr("allocator.bench.probes.few_damages", few)
    return told


def forgetful(spec: ModelSpec, url: str, **options: Any) -> Search:
    """A search whose study knows nothing of single linears yet."""
    search = search_of(spec, url, asked_for(**{"refine": True, **options}), Grouped())
    for kind in LINEAR_RIVALS:
        search.journal.set_attribute(KEPT + kind, None)
    return search


def halved(table: Mapping[tuple[str, Choice], float]) -> dict[Any, float]:
    """Every second linear does half of it, so that none follows its group."""
    keys = list(dict.fromkeys(key for key, _ in table))
    return {at: v / (1 + keys.index(at[0]) % 2) for at, v in table.items()}


@pytest.mark.parametrize("budget", ["4.0", "5.0", "6.5"])
def test_they_fit_and_no_allocation_of_groups_has_a_smaller_sum(
    url: str, budget: str
) -> None:
    # a group for each component
    spec = ModelSpec("toy", 102_400, build_groups(toy_linears(), "component"), ())
    search = search_of(spec, url, asked_for(refine=True, budget=budget))
    space = search.setup.space
    fine = space.by_linear()
    table = halved(damage_of(fine))
    for kind in LINEAR_RIVALS:
        search.journal.keep_damage(table, KEPT + kind)
    found = linear_rivals(search, space)
    assert list(found) == list(LINEAR_RIVALS)
    by_groups = rivals(search, space)["additive"].over(space.spec, fine.spec)
    for each in found.values():
        assert space.fits(each)
        assert summed(each.over(space.spec, fine.spec), table) <= summed(
            by_groups, table
        )
        assert each.layers


def test_pins_are_kept_by_every_linear(toy: ModelSpec, url: str) -> None:
    pins = {"pin": ("vision.front.*=8",), "at_least": ("language.*.ff=4",)}
    search = search_of(toy, url, asked_for(refine=True, budget="6", **pins))
    space = search.setup.space
    assert space.pinned
    found = linear_rivals(search, space)
    assert len(found) == len(LINEAR_RIVALS)
    assert all(space.keeps_pins(each) for each in found.values())


def test_what_a_target_fuses_stays_together(url: str) -> None:
    rows = [
        Linear(f"block.{at}.{name}_proj", "language", at, "attn", 64, 64)
        for at in range(3)
        for name in "qkvo"
    ]
    spec = ModelSpec("toy", 50_000, build_groups(rows), (), model_type="llava")
    search = search_of(spec, url, asked_for(refine=True, budget="6"))
    space = replace(search.setup.space, scheme=Scheme(target="vllm"))
    fine: Any = space.by_linear()
    search.setup.space = space  # type: ignore[misc]
    for kind in LINEAR_RIVALS:
        search.journal.keep_damage(halved(damage_of(fine)), KEPT + kind)
    found = linear_rivals(search, space)
    assert len(found) == len(LINEAR_RIVALS)
    for each in found.values():
        chosen = each.of_linears(spec)
        for at in range(3):
            assert len({chosen[f"block.{at}.{name}_proj"] for name in "qkv"}) == 1


@pytest.mark.parametrize("options", [{"refine": False}, {"granularity": "component"}])
def test_there_are_none_where_linears_follow_their_groups(
    toy: ModelSpec, url: str, measured: list[str], options: dict[str, Any]
) -> None:
    search = forgetful(toy, url, **options)
    assert linear_rivals(search, search.setup.space) == {}
    assert measured == []


def test_tables_are_taken_once_and_counted(
    toy: ModelSpec, url: str, measured: list[str]
) -> None:
    search = forgetful(toy, url)
    first = linear_tables(search)
    assert list(first) == list(LINEAR_RIVALS)
    assert measured == ["gradients of 80", "probes of 64"]
    # full precision for both, and a probe of each linear
    assert search.evaluated == 80 + 64 * (1 + len(toy.linears))
    again = search_of(toy, url, asked_for())
    assert linear_tables(again) == first
    assert len(measured) == 2


def test_a_large_model_is_not_probed(
    toy: ModelSpec, url: str, measured: list[str]
) -> None:
    large = replace(toy, parameters=10**8)
    search = forgetful(large, url, budget="16")
    assert LINEAR_ADDITIVE not in linear_rivals(search, search.setup.space)
    assert measured == ["gradients of 16"]


def test_where_time_is_over_there_are_none(
    toy: ModelSpec, url: str, measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = forgetful(toy, url)
    monkeypatch.setattr(search.deadline, "is_reached", lambda _: True)
    assert linear_rivals(search, search.setup.space) == {}
    assert len(measured) == 1
    told: Any = search.watch
    assert isinstance(told, Told)
    assert told.said == ["time limit reached before single linears were looked at"]
    assert search.journal.damage(search.setup.space, KEPT + LINEAR_ADDITIVE) is None
