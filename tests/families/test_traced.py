"""The parts of models that somebody declared, found again by tracing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.plugins import load
from allocator.families._blocks import Layout, Readers, Row, siblings_of
from allocator.families._declaring import declared
from allocator.families._family import Declared
from allocator.families._fitting import fitted
from allocator.families._places import Rest, place_linears
from allocator.families._structure import Outside, Structure
from allocator.families._traced import traced
from tests.states import VARIANTS, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Siblings

CASES = [
    (name, variant)
    for name, variant in VARIANTS
    # one has a module between the blocks of its tower, see below
    if isinstance(load("allocator.families", name), Declared) and name != "minicpmv4_6"
]
NAMES = {kind.__name__: kind for kind in (Structure, Row, Readers, Outside, Rest)}
# what feeds the projector alone, and is in no declaration
BETTER = {"model.multi_modal_projector.linear": "model.vision_tower.post_layernorm"}


@dataclass(frozen=True)
class Case:
    module: Any
    layout: Layout
    found: Structure


@pytest.fixture(params=CASES, ids=["-".join(pair) for pair in CASES], scope="module")
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    name, variant = request.param
    family, folder = load("allocator.families", name), tmp_path_factory.mktemp(name)
    state = made(family, folder, variant)
    module = family.load(folder, "cpu").module
    layout = family.by_name[variant].layout(module)
    return Case(module, layout, fitted(traced(module, state), module))


def test_rows_are_those_that_are_declared(case: Case) -> None:
    wanted = [case.layout.vision, case.layout.language]
    assert [(row.component, row.path) for row in case.found.rows] == [
        (row.component, row.path) for row in wanted
    ]


def test_sibling_sets_and_folds_of_blocks_are_those_that_are_declared(
    case: Case,
) -> None:
    wanted = [case.layout.vision, case.layout.language]
    for row, other in zip(case.found.rows, wanted, strict=True):
        for number in range(len(case.module.get_submodule(row.path))):
            prefix = f"{row.path}.{number}."
            assert {
                (readers.type, each)
                for readers in row.readers
                for each in siblings_of(case.module, readers, prefix)
            } == {
                (readers.type, each)
                for readers in other.readers
                for each in siblings_of(case.module, readers, prefix)
            }


def test_connectors_are_those_that_are_declared(case: Case) -> None:
    def better(siblings: Siblings) -> Siblings:
        return replace(siblings, fold=siblings.fold or BETTER.get(siblings.names[0]))

    assert {each.component for each in case.found.outside} <= {"connector"}
    assert {
        each for x in case.found.outside for each in siblings_of(case.module, x.readers)
    } == {
        better(each)
        for readers in case.layout.connector
        for each in siblings_of(case.module, readers)
    }


def test_blocks_that_are_read_are_those_that_are_declared(case: Case) -> None:
    counts = [len(case.module.get_submodule(row.path)) for row in case.found.rows]
    found = [
        {number % count for number in reads}
        for reads, count in zip(case.found.reads, counts, strict=True)
    ]
    assert found == [{n % counts[0] for n in case.layout.reads}, {counts[1] - 1}]


def test_groups_are_the_same_whether_traced_or_declared(case: Case) -> None:
    head = Rest("lm_head", "head")
    counts = tuple(len(case.module.get_submodule(r.path)) for r in case.found.rows)
    places = case.found.places(counts)
    found = place_linears("a", case.module, places, case.found.rests, "type")
    rests = (head, *case.layout.rests)
    wanted = place_linears("a", case.module, case.layout.places, rests, "type")
    assert {(g.key, g.linears) for g in found.groups} == {
        (g.key, g.linears) for g in wanted.groups
    }


def test_what_stands_between_the_blocks_of_a_tower_belongs_to_it(
    tmp_path: Path,
) -> None:
    family = load("allocator.families", "minicpmv4_6")
    state = made(family, tmp_path)
    module = family.load(tmp_path, "cpu").module
    layout = family.by_name["minicpmv4_6"].layout(module)
    found = fitted(traced(module, state), module)
    assert [row.path for row in found.rows] == [
        layout.vision.path,
        layout.language.path,
    ]
    within = f"{layout.inserted.path}."
    assert {
        name.removeprefix(within)
        for each in found.outside
        if each.component == "vision"
        for name in each.readers.names.split()
    } == {name for each in layout.inserted.readers for name in each.names.split()}


def test_a_declaration_that_is_printed_gives_what_was_found(case: Case) -> None:
    text = declared(case.found)
    assert eval(text, NAMES) == case.found
    assert max(map(len, text.splitlines())) <= 88
