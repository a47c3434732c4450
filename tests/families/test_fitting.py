"""What was found in a small model, carried over to one of other counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from allocator.core.errors import SpecError
from allocator.families._blocks import Readers
from allocator.families._fitting import fitted
from allocator.families._places import Rest
from allocator.families._structure import EVERY
from allocator.families._traced import traced
from tests.families.handmade import WIDTH, Block, Config, Gated, Model, two_prompts


def test_a_matrix_of_several_linears_is_in_no_group() -> None:
    module = Model()
    for layer in module.layers:
        layer.mlp.down.weight = module.layers[0].mlp.down.weight
    with pytest.raises(SpecError, match=r"layers\.0\.mlp\.down, layers\.1\.mlp\.down"):
        fitted(traced(module, two_prompts()), module)


class Turns(Model):
    """Blocks of two lists take turns: no list is called in a row."""

    def __init__(self) -> None:
        super().__init__(layers=3)
        self.turns = nn.ModuleList(Block() for _ in range(3))

    def seen(self, pixel_values: Tensor) -> Tensor:
        hidden = self.patches(pixel_values)
        for block, other in zip(self.tower, self.turns, strict=True):
            hidden = other(block(hidden))
        return self.projectors[0](hidden)


def test_blocks_that_take_turns_with_others_are_named_and_not_placed() -> None:
    module = Turns()
    found = traced(module, two_prompts())
    assert [row.path for row in found.rows] == ["layers"]
    astray = {x.pattern for x in found.rests if "one after the other" in x.reason}
    assert astray == {r"tower\..+", r"turns\..+"}
    with pytest.raises(SpecError, match=r"^65% of the weights have no place"):
        fitted(found, module)


class Hidden(Block):
    """A linear that is never called, though its weight is used."""

    def __init__(self) -> None:
        super().__init__()
        self.secret = nn.Linear(WIDTH, 4 * WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        made = hidden @ self.secret.weight.T @ self.secret.weight
        return super().forward(hidden) + made


def test_much_that_has_no_place_is_an_error_that_names_it() -> None:
    module = Model(Hidden)
    with pytest.raises(SpecError, match=r"% of the weights .* layers\.1\.secret"):
        fitted(traced(module, two_prompts()), module)


@pytest.mark.parametrize(
    ("read", "config", "found", "deep"),
    [
        ((-1,), {}, ((-1,), False), (-1,)),
        # whatever it is in the other configuration
        ((-2,), {"vision_feature_layer": -2}, (EVERY, True), (2, 3)),
        # nobody knows which of more blocks that would be
        ((-2,), {}, (EVERY, False), (0, 1, 2, 3, 4)),
        ((0, -1), {}, (EVERY, False), (0, 1, 2, 3, 4)),
        ((0, -1), {"deepstack_visual_indexes": [0]}, ((-1,), True), (2, 3, 4)),
    ],
)
def test_blocks_that_are_read_carry_over_as_the_configuration_names_them(
    read: tuple[int, ...],
    config: dict[str, Any],
    found: tuple[tuple[int, ...], bool],
    deep: tuple[int, ...],
) -> None:
    structure = traced(Model(read=read, config=Config(**config)), two_prompts())
    assert (structure.reads[0], structure.named[0]) == found
    large = Model(read=read, config=Config(deepstack_visual_indexes=[3]))
    large.tower = nn.ModuleList(Block() for _ in range(5))
    assert fitted(structure, large).reads[0] == deep


def test_lists_outside_rows_are_as_long_as_those_of_the_other_module() -> None:
    structure = traced(Model(read=(0, -1)), two_prompts())
    large = Model(read=(0, 1, -1), layers=4)
    names = [each.readers.names for each in fitted(structure, large).outside]
    assert sorted(names) == ["projectors.0", "projectors.1", "projectors.2"]


class Bare(Block):
    """A matrix that is no linear layer, and large; another that is small."""

    def __init__(self) -> None:
        super().__init__()
        self.fused = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.router = nn.ParameterDict({"weight": nn.Parameter(torch.randn(1, WIDTH))})

    def forward(self, hidden: Tensor) -> Tensor:
        share = (hidden @ self.router["weight"].T).sigmoid()
        return super().forward(hidden) + share * (hidden @ self.fused)


def test_matrices_that_are_no_linears_are_named_and_counted() -> None:
    module = Model(Bare)
    found = traced(module, two_prompts())
    bare = {each.pattern for each in found.rests if "no linear" in each.reason}
    assert bare == {r"layers\.\d+\.fused", r"layers\.\d+\.router"}
    with pytest.raises(SpecError, match=r"^4% .* layers\.0\.fused, layers\.1\.fused"):
        fitted(found, module)
    # in a small model of which only the structure counts
    assert fitted(found, module, most=1.0).rows == found.rows


def test_a_matrix_may_be_a_vector_in_another_block() -> None:
    module = Model(Bare)
    found = traced(module, two_prompts())
    module.layers[1].router["weight"] = nn.Parameter(torch.randn(WIDTH))
    assert fitted(found, module, most=1.0).rows == found.rows


class Routed(Block):
    """Experts in a list, of which some may read nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Gated() for _ in range(4))

    def forward(self, hidden: Tensor) -> Tensor:
        return super().forward(hidden) + self.experts[2](hidden)


def test_experts_of_a_list_that_read_nothing_are_placed_as_the_others() -> None:
    module = Model(Routed)
    found = fitted(traced(module, two_prompts()), module).rows[1].readers
    names = {each.names: each for each in found}
    for number in range(4):
        assert names[f"experts.{number}.gate experts.{number}.up"].type == "ff"
        down = names[f"experts.{number}.down"]
        assert down.fold == f"experts.{number}.up"


class Moderate(Block):
    """With a gate of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Linear(WIDTH, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.attention(self.norm1(hidden))
        given = self.norm2(hidden)
        return hidden + self.mlp(given) * torch.sigmoid(self.share(given))


def test_gates_of_few_channels_stay_and_nothing_folds_beside_them() -> None:
    module = Model(Moderate)
    structure = traced(module, two_prompts())
    assert Readers("mlp.gate mlp.up share", "ff", "norm2") in structure.rows[1].readers
    found = fitted(structure, module)
    assert Readers("mlp.gate mlp.up", "ff") in found.rows[1].readers
    assert Rest(r"layers\.\d+\.share", "a gate of few channels, kept at 16 bit") in (
        found.rests
    )
