"""A model of a few lines that reads a picture and words, made of any blocks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.core.ports import State

WIDTH, WORDS, PATCH = 16, 11, 12


class Config:
    model_type = "handmade"

    def __init__(self, **others: Any) -> None:
        self.others = others

    def to_dict(self) -> dict[str, Any]:
        return self.others


class Attention(nn.Module):
    """One head."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, hidden: Tensor) -> Tensor:
        shares = (self.q(hidden) @ self.k(hidden).mT / WIDTH**0.5).softmax(-1)
        return self.o(shares @ self.v(hidden))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(WIDTH, 2 * WIDTH) for _ in range(2))
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.down(torch.sigmoid(self.gate(hidden)) * self.up(hidden))


class Block(nn.Module):
    """Norm and attention, norm and feed-forward."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention, self.mlp = Attention(), Gated()

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.attention(self.norm1(hidden))
        return hidden + self.mlp(self.norm2(hidden))


class Model(nn.Module):
    """A tower, projectors of the blocks of it that are read, a language model."""

    def __init__(
        self,
        block: Callable[[], nn.Module] = Block,
        *,
        layers: int = 2,
        read: Sequence[int] = (-1,),
        config: Config | None = None,
    ) -> None:
        super().__init__()
        self.config, self.read = config or Config(), read
        self.patches = nn.Linear(PATCH, WIDTH)
        self.tower = nn.ModuleList(Block() for _ in range(3))
        self.projectors = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in read)
        self.words = nn.Embedding(WORDS, WIDTH)
        self.layers = nn.ModuleList(block() for _ in range(layers))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def seen(self, pixel_values: Tensor) -> Tensor:
        hidden, states = self.patches(pixel_values), []
        for block in self.tower:
            hidden = block(hidden)
            states.append(hidden)
        found = [
            projector(states[number])
            for projector, number in zip(self.projectors, self.read, strict=True)
        ]
        return torch.stack(found).sum(0)

    def forward(
        self, pixel_values: Tensor, input_ids: Tensor, use_cache: bool = False
    ) -> Any:
        del use_cache
        hidden = torch.cat([self.seen(pixel_values), self.words(input_ids)], 1)
        for layer in self.layers:
            hidden = layer(hidden)
        return SimpleNamespace(logits=self.head(self.norm(hidden)))


def two_prompts() -> State:
    generator = torch.Generator().manual_seed(0)
    return {
        "pixel_values": torch.randn(2, 4, PATCH, generator=generator),
        "input_ids": torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]),
    }
