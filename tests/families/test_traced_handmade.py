"""What tracing finds in models of a few lines, of which everything is known."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from allocator.core.errors import ModelError, SpecError
from allocator.families._blocks import Readers, Row
from allocator.families._fitting import fitted
from allocator.families._places import Rest
from allocator.families._structure import EVERY, Outside, Structure
from allocator.families._traced import traced
from tests.families.handmade import (
    WIDTH,
    WORDS,
    Attention,
    Block,
    Config,
    Gated,
    Model,
    two_prompts,
)

if TYPE_CHECKING:
    from collections.abc import Callable

READERS = (
    Readers("attention.q attention.k attention.v", "attn", "norm1"),
    Readers("attention.o", "attn", "attention.v"),
    Readers("mlp.gate mlp.up", "ff", "norm2"),
    Readers("mlp.down", "ff", "mlp.up"),
)


def language(block: Callable[[], nn.Module]) -> tuple[Readers, ...]:
    """What is found in the blocks of a language model."""
    return traced(Model(block), two_prompts()).rows[1].readers


def test_rows_connector_head_and_patches_are_found() -> None:
    assert traced(Model(), two_prompts()) == Structure(
        rows=(Row("vision", "tower", READERS), Row("language", "layers", READERS)),
        reads=((-1,), (-1,)),
        outside=(Outside("connector", Readers("projectors.0", "all")),),
        rests=(
            Rest("head", "output head, kept at 16 bit unless included"),
            Rest("patches", "patch embedding, kept at 16 bit"),
        ),
        named=(False, False),
    )


def test_weights_are_as_they_were() -> None:
    module = Model()
    before = deepcopy(module.state_dict())
    traced(module, two_prompts())
    after = module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(child._forward_hooks for child in module.modules())


class Parallel(Block):
    def forward(self, hidden: Tensor) -> Tensor:
        given = self.norm1(hidden)
        return hidden + self.attention(given) + self.mlp(given)


def test_a_norm_that_feeds_attention_and_feed_forward_folds_into_neither() -> None:
    assert language(Parallel) == (
        Readers("attention.q attention.k attention.v", "attn"),
        Readers("attention.o", "attn", "attention.v"),
        Readers("mlp.gate mlp.up", "ff"),
        Readers("mlp.down", "ff", "mlp.up"),
    )


class Twice(Block):
    """One norm, read as it is and once more at half its size."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        given = self.norm2(hidden)
        return super().forward(hidden) + self.mlp(given) + self.other(given / 2)


def test_a_norm_that_feeds_two_sets_folds_into_neither() -> None:
    found = {each.names: each.fold for each in language(Twice)}
    assert found["mlp.gate mlp.up"] is None
    assert found["other"] is None


class Calm(nn.Module):
    """No attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(WIDTH), Gated()

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.mlp(self.norm(hidden))


def test_blocks_without_attention_are_feed_forward() -> None:
    assert [each.type for each in language(Calm)] == ["ff", "ff"]


class Convolved(Calm):
    """Tokens mix in a convolution between two linears."""

    def __init__(self) -> None:
        super().__init__()
        self.mixer = nn.ModuleDict(
            {"into": nn.Linear(WIDTH, WIDTH), "out": nn.Linear(WIDTH, WIDTH)}
        )
        self.filter = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        mixed = self.filter(self.mixer["into"](hidden).mT).mT
        return super().forward(hidden + self.mixer["out"](mixed))


class Direct(nn.Module):
    """All linears hang in the block itself."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.fc1, self.fc2 = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + Attention.forward(self, hidden)  # type: ignore[arg-type]
        return hidden + self.fc2(self.fc1(hidden).tanh())


@pytest.mark.parametrize("block", [Convolved, Direct])
def test_what_mixes_tokens_is_told_though_it_is_no_module(
    block: Callable[[], nn.Module],
) -> None:
    attention = {"mixer.into", "mixer.out", "q", "k", "v", "o"}
    for each in language(block):
        for name in each.names.split():
            assert each.type == ("attn" if name in attention else "ff"), name


class Bent(Block):
    """What a norm gives is bent before it is read: no scale passes."""

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.attention(self.norm1(hidden).tanh())
        return hidden + self.mlp(self.norm2(hidden).relu())


def test_a_fold_that_looks_right_is_none_where_the_outcome_changes() -> None:
    found = {each.names: each.fold for each in language(Bent)}
    assert found["attention.q attention.k attention.v"] is None
    # a positive scale passes a ReLU
    assert found["mlp.gate mlp.up"] == "norm2"


class Gemma(nn.Module):
    """A norm that multiplies by 1 plus its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(WIDTH))

    def forward(self, hidden: Tensor) -> Tensor:
        return (
            hidden / hidden.square().mean(-1, keepdim=True).sqrt() * (1 + self.weight)
        )


class Added(Block):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = Gemma()  # type: ignore[assignment]


def test_what_a_norm_adds_to_its_weight_is_found() -> None:
    assert [each.added for each in language(Added)] == [1.0, 0.0, 0.0, 0.0]


def test_blocks_of_several_kinds_are_one_row() -> None:
    kinds = iter([Block, Calm, Block])
    assert set(language(lambda: next(kinds)())) == {
        *READERS[:2],
        # in blocks without attention another norm stands in front
        Readers("mlp.gate mlp.up", "ff"),
        READERS[3],
    }


def test_a_tower_that_pictures_do_not_use_is_named() -> None:
    module = Model()
    module.audio = nn.ModuleList(Block() for _ in range(2))
    found = traced(module, two_prompts())
    assert Rest(r"audio\..+", "not used for pictures") in found.rests


def test_a_matrix_of_several_linears_is_in_no_group() -> None:
    module = Model()
    for layer in module.layers:
        layer.mlp.down.weight = module.layers[0].mlp.down.weight
    with pytest.raises(SpecError, match=r"layers\.0\.mlp\.down, layers\.1\.mlp\.down"):
        fitted(traced(module, two_prompts()), module)


def test_a_row_that_runs_one_block_twice_is_none() -> None:
    module = Model()
    module.layers = nn.ModuleList([module.layers[0]] * 2)
    with pytest.raises(ModelError, match="none can be its language model"):
        traced(module, two_prompts())


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


class Blind(Model):
    def seen(self, pixel_values: Tensor) -> Tensor:
        return super().seen(torch.zeros_like(pixel_values))


class Broken(Model):
    def seen(self, pixel_values: Tensor) -> Tensor:
        raise RuntimeError(f"no room for {len(pixel_values)}\nat line 3")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Blind, "the replies do not depend on the pictures that it is shown"),
        (Broken, "this 'handmade' model cannot be placed by its structure: no room"),
    ],
)
def test_what_cannot_be_traced_is_said_in_one_sentence(
    kind: type[Model], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        traced(kind(), two_prompts())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("read", "config", "found", "deep"),
    [
        ((-1,), {}, ((-1,), False), (-1,)),
        ((-2,), {"vision_feature_layer": -2}, ((-2,), False), (-2,)),
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


def test_the_head_stays_though_it_is_the_embeddings_matrix() -> None:
    module = Model()
    module.head.weight = module.words.weight
    found = traced(module, two_prompts())
    assert [rest.pattern for rest in found.rests] == ["head", "patches"]
    assert module.head.weight.shape == (WORDS, WIDTH)
