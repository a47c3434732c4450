"""What tracing finds in models of a few lines, of which everything is known."""

from __future__ import annotations

from copy import deepcopy
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from allocator.core.errors import ModelError
from allocator.families._blocks import Readers, Row
from allocator.families._places import Rest
from allocator.families._structure import Outside, Structure
from allocator.families._traced import traced
from tests.families.handmade import (
    WIDTH,
    WORDS,
    Attention,
    Block,
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


class Crossed(nn.Module):
    """Tokens that read a picture's, and not each other."""

    def __init__(self) -> None:
        super().__init__()
        self.cross, self.mlp = Attention(), Gated()

    def forward(self, hidden: Tensor, others: Tensor) -> Tensor:
        cross = self.cross
        shares = (cross.q(hidden) @ cross.k(others).mT).softmax(-1)
        return self.mlp(hidden + cross.o(shares @ cross.v(others)))


class Keyed(Model):
    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, use_cache: bool = False
    ) -> Any:
        del use_cache
        others, hidden = self.seen(pixel_values), self.words(input_ids)
        for layer in self.layers:
            hidden = layer(hidden, others)
        return SimpleNamespace(logits=self.head(self.norm(hidden)))


def test_cross_attention_is_attention_and_its_keys_a_set_of_their_own() -> None:
    found = traced(Keyed(Crossed), two_prompts()).rows[1].readers
    assert {(each.names, each.type, each.fold) for each in found} == {
        ("cross.q", "attn", None),
        ("cross.k cross.v", "attn", None),
        ("cross.o", "attn", "cross.v"),
        ("mlp.gate mlp.up", "ff", None),
        ("mlp.down", "ff", "mlp.up"),
    }


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


def test_a_row_that_runs_one_block_twice_is_none() -> None:
    module = Model()
    module.layers = nn.ModuleList([module.layers[0]] * 2)
    with pytest.raises(ModelError, match="none can be its language model"):
        traced(module, two_prompts())


class Blind(Model):
    def seen(self, pixel_values: Tensor) -> Tensor:
        return super().seen(torch.zeros_like(pixel_values))


class Broken(Model):
    def seen(self, pixel_values: Tensor) -> Tensor:
        raise RuntimeError(f"no room for {len(pixel_values)}\nat line 3")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Blind, "this 'handmade' model .*: its replies do not depend on the pictures"),
        (Broken, "this 'handmade' model cannot be placed by its structure: no room"),
    ],
)
def test_what_cannot_be_traced_is_said_in_one_sentence(
    kind: type[Model], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        traced(kind(), two_prompts())
    assert "\n" not in str(caught.value)


def test_the_head_stays_though_it_is_the_embeddings_matrix() -> None:
    module = Model()
    module.head.weight = module.words.weight
    found = traced(module, two_prompts())
    assert [rest.pattern for rest in found.rests] == ["head", "patches"]
    assert module.head.weight.shape == (WORDS, WIDTH)
