"""autoawq 0.2.9, which we did not write, driven without a model and without pytest.

It runs real activations through the layers for every candidate and keeps everything in
float32; we have the statistics alone and fp16 scales.
"""

from __future__ import annotations

import importlib.util
import math
import types
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

import torch

from tests.quant.peers import load_bare

if TYPE_CHECKING:
    from collections.abc import Sequence

# autoawq imports these for downloads and device maps, which the search does not use
UNUSED = ("accelerate", "datasets")


@cache
def load_autoawq() -> types.ModuleType | None:
    """autoawq 0.2.9 with its search alone; None where it is not installed."""
    missing = [name for name in UNUSED if importlib.util.find_spec(name) is None]
    return load_bare(
        "awq", "quantize.quantizer", others={name: _empty(name) for name in missing}
    )


def _empty(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    # transformers looks at the spec of what it finds imported
    module.__spec__ = ModuleSpec(name, None)
    module.__dict__["load_dataset"] = None
    return module


class Siblings(torch.nn.Module):
    """Linears that read one input, after the module their scale folds into."""

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(weights[0].shape[1])
        self.linears = torch.nn.ModuleList()
        for weight in weights:
            # no weight is drawn, since it would be thrown away
            linear = torch.nn.Linear(
                weight.shape[1], weight.shape[0], bias=False, device="meta"
            )
            linear.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
            self.linears.append(linear)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([linear(x) for linear in self.linears], dim=-1)


@dataclass(frozen=True)
class AutoAwq:
    """autoawq's own search with our words for its settings.

    Attributes:
        package: what `load_autoawq` gave.
        group: neighbouring inputs that share one scale.
        duo: divide the scales by the mean magnitude of the weights too, its default.
    """

    package: types.ModuleType
    group: int = 128
    duo: bool = False

    def search(self, bits: int) -> Any:
        """Its `AwqQuantizer`, which knows its settings but no model."""
        made = object.__new__(self.package.quantize.quantizer.AwqQuantizer)
        made.w_bit, made.group_size, made.zero_point = bits, self.group, True
        made.duo_scaling, made.n_parallel_calib_samples = self.duo, None
        made.max_chunk_memory = 2**30
        return made

    @torch.no_grad()
    def solve(
        self,
        weights: Sequence[torch.Tensor],
        x: torch.Tensor,
        bits: int,
        *,
        foldable: bool,
    ) -> list[torch.Tensor]:
        """Effective weights after its search of a scale and of clipping.

        Args:
            weights: matrices [out_i, in]; not modified.
            x: [tokens, in], the inputs they all read.
            bits: width of a code.
            foldable: whether a scale is searched at all.
        """
        search = self.search(bits)
        scale = self.scale(weights, x, bits) if foldable else torch.ones(x.shape[1])
        result = []
        for weight in weights:
            scaled = weight * scale
            bound = search._compute_best_clip(scaled, x / scale)
            groups = scaled.reshape(*bound.shape[:2], -1)
            clipped = torch.clamp(groups, -bound, bound).reshape(weight.shape)
            result.append(search.pseudo_quantize_tensor(clipped)[0] / scale)
        return result

    @torch.no_grad()
    def scale(
        self, weights: Sequence[torch.Tensor], x: torch.Tensor, bits: int
    ) -> torch.Tensor:
        """The scale [in] that its search chooses for all siblings."""
        module = Siblings(weights)
        _, _, scale = self.search(bits)._search_best_scale(
            module, module.norm, list(module.linears), x, module
        )
        found: torch.Tensor = scale
        return found


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def activations(features: int, spread: float, tokens: int = 512) -> torch.Tensor:
    """Correlated inputs whose loudness spreads over e**spread."""
    mixing = gaussian(features, features, seed=1) / math.sqrt(features)
    mixing += torch.eye(features)
    loud = torch.exp(spread * gaussian(1, features, seed=2))
    return gaussian(tokens, features, seed=3) @ mixing * loud
