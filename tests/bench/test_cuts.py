from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.bench.cuts import Cuts
from allocator.bench.forward import Forward
from allocator.bench.in_place import InPlace
from allocator.core.allocation import Choice
from allocator.core.cost import Cost
from allocator.core.plugins import load
from quant.lru_cache import LRUCache
from tests.states import logits_of, made

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model, State
    from allocator.core.spec import ModelSpec

FAMILY = load("allocator.families", "llava")
FULL, LOW = Choice(16), Choice(2, "uniform")
# of the batch: two samples
NAME = ("batch", "2")
# the stages of two blocks each: embed, 0, 1, connector, embed, 0, 1, head
ENDS, BLOCKS = (3, 4), (2, 3, 4, 6)


@pytest.fixture
def made_model(tmp_path: Path) -> tuple[Model, ModelSpec, State]:
    state = made(FAMILY, tmp_path)
    return FAMILY.load(tmp_path, "cpu"), FAMILY.spec(tmp_path), state


def forward_of(model: Model, spec: ModelSpec, **options: Any) -> Forward:
    usual = {"kept": LRUCache(2**28), "cost": Cost(), **options}
    in_place = InPlace(model.module, spec.linears)
    return Forward(model, in_place, Cuts.of(model, spec), **usual)


def changed(forward: Forward, *parts: str) -> dict[str, Choice]:
    """Choices of all linears, low where the name holds one of some parts."""
    names = forward.in_place.current
    return {n: LOW if any(part in n for part in parts) else FULL for n in names}


def test_cuts_stand_where_groups_change_and_behind_the_prefix(
    made_model: tuple[Model, ModelSpec, State],
) -> None:
    model, spec, _ = made_model
    # two blocks are one part: groups change with the component alone
    assert Cuts.of(model, spec).places == ENDS
    fine = Cuts.of(model, spec.by_linear())
    assert (fine.places, fine.ends, fine.prefix) == (BLOCKS, ENDS, 4)
    assert [fine.blocks(0, at) for at in (0, 1, 2, 3, 4, 5, 8)] == [0, 0, 1, 2, 3, 3, 5]
    assert sorted(fine.linears, key=str) == sorted(spec.linears, key=str)


def test_one_matrix_is_in_front_of_the_first_stage_that_reads_it(
    tmp_path: Path,
) -> None:
    """The head of a model is its embedding, which the language model begins with."""
    family = load("allocator.families", "blip2")
    made(family, tmp_path, "opt")
    model = family.load(tmp_path, "cpu")
    spec = family.spec(tmp_path, include=("head",))
    cuts = Cuts.of(model, spec)
    (head,) = [linear for linear in spec.linears if linear.type == "head"]
    names = [stage.name for stage in cuts.stages]
    assert head in cuts.first_read[names.index("language.embed")]
    assert head not in cuts.first_read[names.index("language.head")]


def test_a_cut_is_named_by_the_choices_in_front_alone(
    made_model: tuple[Model, ModelSpec, State],
) -> None:
    model, spec, _ = made_model
    forward = forward_of(model, spec.by_linear())

    def names(*parts: str, has_changed: bool = False) -> list[str]:
        wanted, cuts = changed(forward, *parts), forward.cuts
        return list(cuts.names(wanted, None, has_changed=has_changed).values())

    full, tower = names(), "vision_tower.encoder.layers.1"
    assert len(set(full)) == 4
    same = [a == b for a, b in zip(full, names(f"{tower}.mlp.fc1"), strict=True)]
    assert same == [True, False, False, False]
    assert full[:3] == names("language_model.layers.0")[:3]
    assert full == names("language_model.layers.1")
    # folding rounds what has no cell: equal choices are not all there is
    assert not {*full} & {*names(has_changed=True)}


def test_what_begins_at_a_cut_ends_as_what_begins_at_the_pixels(
    made_model: tuple[Model, ModelSpec, State],
) -> None:
    model, spec, state = made_model
    forward = forward_of(model, spec.by_linear())
    fresh = replace(forward, kept=LRUCache(0), cost=Cost())
    whole = fresh.logits(NAME, state, None)
    torch.testing.assert_close(whole, logits_of(model, state)[:, -1:])
    assert torch.equal(forward.logits(NAME, state, None), whole)
    assert len(forward.kept.values) == len(BLOCKS)
    # two samples through five blocks; then from the last cut on, and so on down
    assert (forward.cost.ran, forward.cost.reused) == (10, 0)
    for run in (1, 2, 3, 4, 5):
        forward.cost.ran = forward.cost.reused = 0
        alone = replace(forward, kept=replace(forward.kept))
        assert torch.equal(alone.logits(NAME, state, None), whole)
        assert (forward.cost.ran, forward.cost.reused) == (2 * run, 10 - 2 * run)
        for key in list(forward.kept.values)[len(BLOCKS) - run :]:
            forward.kept.values.pop(key)


def test_what_comes_next_decides_what_is_kept(
    made_model: tuple[Model, ModelSpec, State],
) -> None:
    model, spec, state = made_model
    forward = forward_of(model, spec.by_linear())

    def kept(ahead: dict[str, Choice] | None, limit: int = 2**28) -> list[int]:
        now = replace(forward, kept=LRUCache(limit), ahead=ahead)
        now.logits(NAME, state, None)
        by_name = {name: at for at, name in now._names.items()}
        return [by_name[name] for name, _ in now.kept.values]

    tower = "vision_tower.encoder.layers.1"
    assert kept(None) == [2, 3, 4, 6]
    assert kept(changed(forward, "language_model.layers.1")) == [2, 3, 4, 6]
    assert kept(changed(forward, "language_model.layers.0")) == [2, 3, 4]
    assert kept(changed(forward, tower)) == [2]
    assert kept(changed(forward, "vision_tower")) == []
    # all states of a language model are as large: with room for one, the deepest
    now = replace(forward, kept=LRUCache(2**28))
    now.logits(NAME, state, None)
    sizes = [size for size, _ in now.kept.values.values()]
    assert kept(None, max(sizes)) == [6]


def test_a_scan_longer_than_the_cache_finds_as_much_as_it_holds() -> None:
    """Four batches over and over, of which two fit: the longest unused is next."""
    kept, found = LRUCache(2), 0
    for _ in range(3):
        for batch in "abcd":
            found += kept.get(batch) is not None
            kept.put_for(batch, 1, batch, lambda _: 1.0)
    assert found == 2 * 2


def test_what_is_worth_less_gives_way_and_nothing_else() -> None:
    kept, worth = LRUCache(4), {"old": 0, "low": 1, "high": 3, "middle": 2, "wide": 2}
    for name in ("low", "high", "old"):
        kept.put_for(name, 1, name, worth.__getitem__)
    kept.put_for("middle", 2, "middle", worth.__getitem__)
    # the least alone gave way: that was enough
    assert list(kept.values) == ["low", "high", "middle"]
    # three is more than what all that is worth less makes room for
    kept.put_for("wide", 3, "wide", worth.__getitem__)
    assert list(kept.values) == ["low", "high", "middle"]
    assert kept.held == 4
