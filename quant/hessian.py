"""What a linear's inputs look like, and what an error in its weights costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from allocator.core.errors import ModelError, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

# each attempt damps ten times more; the last outweighs any rounding error
ATTEMPTS = 12
# rows whose errors are added up between two looks at a limit
CHUNK = 256


@dataclass(eq=False)
class InputStatistics:
    """Second and first moments of the inputs that a set of linears reads.

    Attributes:
        hessian: [in, in] float32, 2/n sum of x x^T, GPTQ's convention
            (arXiv 2210.17323).
        mean_abs: [in] float32, mean of abs(x), AWQ's statistic (arXiv 2306.00978).
        tokens: number n of inputs seen.
    """

    hessian: Tensor
    mean_abs: Tensor
    tokens: int = 0

    @staticmethod
    def empty(in_features: int, device: torch.device | str = "cpu") -> InputStatistics:
        """Statistics of no inputs at all."""
        return InputStatistics(
            torch.zeros(in_features, in_features, device=device),
            torch.zeros(in_features, device=device),
        )

    @torch.no_grad()
    def add(self, x: Tensor) -> None:
        """Count in a batch of inputs.

        Args:
            x: [..., in], floating point, without padding.

        Raises:
            SpecError: another number of features.
        """
        if x.shape[-1] != len(self.mean_abs):
            raise SpecError(
                f"inputs have {x.shape[-1]} features, not {len(self.mean_abs)}"
            )
        rows = x.reshape(-1, x.shape[-1]).to(self.hessian).contiguous()
        if not len(rows):
            return
        # running means, so that no sum outgrows float32
        before, self.tokens = self.tokens, self.tokens + len(rows)
        self.mean_abs += (rows.abs().mean(0) - self.mean_abs) * len(rows) / self.tokens
        self.hessian.addmm_(
            rows.T, rows, beta=before / self.tokens, alpha=2 / self.tokens
        )

    def check(self, weights: Sequence[Tensor]) -> None:
        """Refuse weights that cannot read these inputs, and inputs that overflowed.

        Raises:
            SpecError: a weight that is not of shape [out, in].
            ModelError: activations were infinite or not numbers.
        """
        for weight in weights:
            if weight.dim() != 2 or weight.shape[1] != len(self.mean_abs):
                raise SpecError(
                    f"a weight of shape {list(weight.shape)} does not read "
                    f"{len(self.mean_abs)} features"
                )
        _check_finite(self.hessian)


def _check_finite(hessian: Tensor) -> None:
    if not bool(torch.isfinite(hessian).all()):
        raise ModelError("calibration activations are infinite or not numbers")


def dead_inputs(hessian: Tensor) -> Tensor:
    """Which inputs were 0 in every token: [in] bool."""
    return hessian.diagonal() == 0


def inverse_factor(hessian: Tensor, damp: float = 0.01) -> Tensor:
    """Upper Cholesky factor U of the inverse of the damped Hessian, H^-1 = U^T U.

    `damp` times the mean of the diagonal is added to the diagonal, as GPTQ does
    (arXiv 2210.17323, section 3.3, step 3), ten times more wherever that is not enough.
    The mean is taken over live inputs: a dead one, whose diagonal is set to 1, says
    nothing about the size of the others.

    Args:
        hessian: [in, in], symmetric, positive semi-definite.
        damp: share of the mean diagonal, positive.

    Returns:
        [in, in], upper triangular, dtype of `hessian`, finite.

    Raises:
        ModelError: activations were infinite or not numbers.
    """
    _check_finite(hessian)
    # Apple's GPUs know no float64
    dtype = torch.float32 if hessian.device.type == "mps" else torch.float64
    matrix = hessian.to(dtype, copy=True)
    dead = dead_inputs(hessian)
    diagonal = matrix.diagonal()
    mean = diagonal[~dead].mean() if not bool(dead.all()) else diagonal.new_ones(())
    diagonal[dead] = 1.0
    diagonal += damp * mean
    for attempt in range(ATTEMPTS):
        factor = _inverse_upper(matrix)
        if factor is not None:
            return factor.to(hessian.dtype)
        diagonal += 9 * damp * 10**attempt * mean
    raise ModelError("the Hessian of the calibration activations cannot be factored")


def _inverse_upper(matrix: Tensor) -> Tensor | None:
    """U with U^T U the inverse of a matrix, or None if it is not positive definite.

    Turning rows and columns round makes a lower factor an upper one: matrix = M M^T
    with M upper triangular, so U = M^-1. One factorization and one triangular solve,
    where the inverse and its own factor would take two and a product.
    """
    lower, failed = torch.linalg.cholesky_ex(matrix.flip(0, 1))
    if int(failed):
        return None
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
    upper = inverse.flip(0, 1).contiguous()
    return upper if bool(torch.isfinite(upper.float()).all()) else None


def output_error(delta: Tensor, hessian: Tensor) -> Tensor:
    """Squared error of a linear's outputs, from the error of its weights.

    Row by row the diagonal of dW H dW^T: twice the squared output error of an average
    token. The sum over rows is tr(dW H dW^T).

    Args:
        delta: [out, in], quantized minus original weights, float32.
        hessian: [in, in].

    Returns:
        [out], not negative.
    """
    return ((delta @ hessian) * delta).sum(1).clamp(min=0)


def total_error(delta: Tensor, hessian: Tensor, limit: float = float("inf")) -> float:
    """tr(dW H dW^T), or what is known of it once it exceeds a limit.

    No row has a negative error, so a sum over some rows that is above the limit settles
    a comparison, often after a fraction of the work.

    Args:
        delta: [out, in], quantized minus original weights, float32.
        hessian: [in, in].
        limit: where to stop.
    """
    total = 0.0
    for start in range(0, len(delta), CHUNK):
        total += float(output_error(delta[start : start + CHUNK], hessian).sum())
        if total > limit:
            break
    return total
