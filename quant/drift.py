"""What quantized predecessors did to inputs, and weights that make up for it.

Behind quantized linears an input x has become q. What should come out is still W x, so
the weights to quantize are not W but those that come nearest to it on what is read,

    W + D,  D minimizing |(W + D) q - W x|^2 + ridge |D|^2,

the target of GPTAQ (arXiv 2504.02692), solved for before rounding, so that any method
can take it from there. How much of D holds beyond the calibration samples they tell
themselves: D of one half of them is judged on the other half, and shrunk by the factor
that would have been best there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from quant.hessian import factor_, invert_
from quant.products import add_product_, product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# of the mean of the diagonal. On the embedded models at 2 and 3 bits and in mixtures
# 0.01, 0.03 and 0.1 did equally well; the largest is the easiest to factor
RIDGE = 0.1


@dataclass(eq=False)
class Moments:
    """Second moments of some inputs and of how far they have moved.

    Attributes:
        square: [in, in] float32, mean of q q^T.
        moved: [in, in] float32, mean of q (x - q)^T.
        tokens: number of inputs seen.
    """

    square: Tensor
    moved: Tensor
    tokens: int = 0

    @staticmethod
    def empty(in_features: int, device: torch.device | str = "cpu") -> Moments:
        """Moments of no inputs at all."""
        zeros = torch.zeros(in_features, in_features, device=device)
        return Moments(zeros, zeros.clone())

    def add(self, full: Tensor, read: Tensor) -> None:
        """Count in inputs [n, in] as they were and as they are read now."""
        if not len(read):
            return
        before, self.tokens = self.tokens, self.tokens + len(read)
        read = read.float()
        gap = full.float() - read
        # running means, so that no sum outgrows float32
        kept, share = before / self.tokens, math.sqrt(1 / self.tokens)
        read, gap = read * share, gap * share
        add_product_(self.square.mul_(kept), read.T, read)
        add_product_(self.moved.mul_(kept), read.T, gap)

    def fit(self, weight: Tensor) -> Tensor:
        """The change that makes up for the drift: D^T, [in, out], of W [out, in]."""
        size = self.square.diagonal().mean()
        if not float(size) > 0:
            return torch.zeros_like(weight.T)
        damped = self.square.clone()
        damped.diagonal().add_(RIDGE * size)
        if not factor_(damped):
            # rounding errors beyond the ridge: no change is better than a wild one
            return torch.zeros_like(weight.T)
        invert_(damped)
        inverse = damped.tril_()
        return product(inverse.T, product(inverse, product(self.moved, weight.T)))


@dataclass(frozen=True, eq=False)
class Drift:
    """The drift of the inputs that a sibling set reads, in two halves."""

    halves: tuple[Moments, Moments]

    @staticmethod
    def empty(in_features: int, device: torch.device | str = "cpu") -> Drift:
        """The drift of no inputs at all."""
        first, second = (Moments.empty(in_features, device) for _ in range(2))
        return Drift((first, second))

    @torch.no_grad()
    def add(self, full: Tensor, read: Tensor) -> None:
        """Count in a batch, its samples one behind the other.

        Args:
            full: [n, in], inputs at full precision.
            read: [n, in], the same inputs behind quantized linears.
        """
        middle = len(read) // 2
        self.halves[0].add(full[:middle], read[:middle])
        self.halves[1].add(full[middle:], read[middle:])

    @torch.no_grad()
    def corrected(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Weights to quantize in place of others, on the same device.

        Args:
            weights: matrices [out_i, in]; not modified.

        Returns:
            Matrices of the same shapes, float32: the very same numbers where nothing
            has moved.
        """
        whole = torch.cat([weight.float() for weight in weights])
        share = self._share(whole)
        change = share * self._joined().fit(whole).T
        return list((whole + change).split_with_sizes([len(w) for w in weights]))

    def _joined(self) -> Moments:
        first, second = self.halves
        total = max(first.tokens + second.tokens, 1)
        return Moments(
            (first.square * first.tokens + second.square * second.tokens) / total,
            (first.moved * first.tokens + second.moved * second.tokens) / total,
            total,
        )

    def _share(self, weight: Tensor) -> float:
        """How much of the change to take: what one half's is worth on the other."""
        gain = cost = 0.0
        first, second = self.halves
        for fitted, judge in ((first, second), (second, first)):
            # with g = W (x - q): E |g - s D q|^2 = E |g|^2 - 2 s gain + s^2 cost
            change = fitted.fit(weight)
            gain += _dot(change, product(judge.moved, weight.T))
            cost += _dot(change, product(judge.square, change))
        return min(1.0, max(0.0, gain / cost)) if cost > 0 else 0.0


def _dot(left: Tensor, right: Tensor) -> float:
    """Sum of the products of two matrices, a column at a time."""
    return float((left * right).sum(0).double().sum())
