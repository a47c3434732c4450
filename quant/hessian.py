"""What a linear's inputs look like, and what an error in its weights costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from allocator.core.errors import ModelError, SpecError
from quant.chunks import at_once
from quant.ordering import smallest_first
from quant.products import add_product_, product, subtract_product_

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

# each attempt damps ten times more; the last outweighs any rounding error
ATTEMPTS = 12
# rows whose errors are added up between two looks at a limit; a look at what a device
# has computed is to wait for it
CHUNK, DEVICE_CHUNK = 256, 2**14
# rows and columns of a block in the factorization; LAPACK's own factors of larger ones
# depend on the number of threads (`quant.products`)
BLOCK = 128


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

    @staticmethod
    def even(in_features: int, device: torch.device | str = "cpu") -> InputStatistics:
        """Statistics under which an error costs the same in every column.

        Right for embeddings, whose rows are looked up instead of multiplied.
        """
        return InputStatistics(
            2 * torch.eye(in_features, device=device),
            torch.ones(in_features, device=device),
            tokens=1,
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
        self.hessian.mul_(before / self.tokens)
        rows = rows * math.sqrt(2 / self.tokens)
        add_product_(self.hessian, rows.T, rows)

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
        _check_finite(self.mean_abs)


def _is_finite(matrix: Tensor) -> bool:
    """Whether all is finite, without a copy of the matrix; one that is empty is."""
    if not matrix.numel():
        return True
    return bool(torch.stack(torch.aminmax(matrix)).isfinite().all())


def _check_finite(moments: Tensor) -> None:
    if not _is_finite(moments):
        raise ModelError("calibration activations are infinite or not numbers")


def dead_inputs(hessian: Tensor) -> Tensor:
    """Which inputs were 0 in every token: [in] bool."""
    return hessian.diagonal() == 0


def inverse_factor(
    hessian: Tensor, damp: float = 0.01, order: Tensor | None = None
) -> Tensor:
    """Upper Cholesky factor U of the inverse of the damped Hessian, H^-1 = U^T U.

    `damp` times the mean of the diagonal is added to the diagonal, as GPTQ does
    (arXiv 2210.17323, section 3.3, step 3), ten times more wherever that is not enough.
    The mean is taken over live inputs: a dead one, whose diagonal is set to 1, says
    nothing about the size of the others.

    Beside the result one matrix is held, in double precision.

    Args:
        hessian: [in, in], symmetric, positive semi-definite.
        damp: share of the mean diagonal, positive.
        order: [in] indices; the factor is that of hessian[order][:, order].

    Returns:
        [in, in], upper triangular, dtype of `hessian`, finite.

    Raises:
        ModelError: activations were infinite or not numbers.
    """
    if order is None:
        order = torch.arange(len(hessian), device=hessian.device)
    return factored(hessian, order, damp=damp).factor


@dataclass(frozen=True, eq=False)
class Factored:
    """A damped Hessian, and the factor of its inverse.

    Attributes:
        order: [in] indices; rows and columns of all else are in this order.
        factor: [in, in], see `inverse_factor`.
        diagonal: [in] of the damped Hessian, 1 and more for dead inputs.
    """

    order: Tensor
    factor: Tensor
    diagonal: Tensor


def factored(
    hessian: Tensor, order: Tensor, *, span: int = 1, damp: float = 0.01
) -> Factored:
    """Damp and factor as `inverse_factor` does.

    Args:
        hessian: [in, in], symmetric, positive semi-definite.
        order: [in] indices.
        span: so many neighbours in this order change places among each other, `BLOCK`
            of them at most, such that the last ones have the smallest pivots
            (`quant.ordering`).
        damp: share of the mean diagonal, positive.

    Raises:
        ModelError: activations were infinite or not numbers.
    """
    _check_finite(hessian)
    # Apple's GPUs know no float64
    dtype = torch.float32 if hessian.device.type == "mps" else torch.float64
    diagonal, dead = hessian.diagonal().to(dtype), dead_inputs(hessian)
    mean = diagonal[~dead].mean() if not bool(dead.all()) else diagonal.new_ones(())
    diagonal = torch.where(dead, 1.0, diagonal)
    for attempt in range(ATTEMPTS):
        backwards = order.flip(0)
        damped = diagonal + damp * 10**attempt * mean
        factor = _inverse_upper(hessian, backwards, damped, span)
        if factor is not None:
            order = backwards.flip(0)
            return Factored(order, factor, damped[order].to(factor.dtype))
    raise ModelError("the Hessian of the calibration activations cannot be factored")


def _inverse_upper(
    hessian: Tensor, backwards: Tensor, diagonal: Tensor, span: int
) -> Tensor | None:
    """Upper factor of the inverse, or None if the matrix is not positive definite.

    Turning rows and columns round makes a lower factor an upper one: H turned round is
    L L^T, and U is L^-1 turned round. One factorization and one triangular inverse,
    where the inverse and its own factor would take two and a product.

    Args:
        hessian: [in, in].
        backwards: [in] indices, the last one first; changed inside spans.
        diagonal: [in] what to put in the place of the diagonal, in the order of the
            matrix; its dtype is used.
        span: as of `factored`.
    """
    size = len(backwards)
    # rows a multiple of 4 KiB apart would share the same few lines of the cache
    matrix = diagonal.new_empty(size, size + 8)[:, :size]
    for rows in _blocks(size):
        matrix[rows] = hessian[backwards[rows]][:, backwards]
    matrix.diagonal().copy_(diagonal[backwards])
    if not factor_(matrix, backwards, span):
        return None
    invert_(matrix)
    upper = hessian.new_empty(size, size)
    for rows in _blocks(size):
        upper[rows] = matrix[size - rows.stop : size - rows.start].flip(0, 1)
        upper[rows].triu_(rows.start)
    return upper if _is_finite(upper) else None


def _blocks(size: int) -> list[slice]:
    """Neighbouring rows or columns, `BLOCK` at a time."""
    return [slice(at, min(at + BLOCK, size)) for at in range(0, size, BLOCK)]


def factor_(matrix: Tensor, order: Tensor | None = None, span: int = 1) -> bool:
    """Replace the lower triangle by the Cholesky factor; False if there is none.

    Args:
        matrix: [n, n], symmetric.
        order: [n] what its rows are; changed together with them.
        span: so many neighbouring rows, of a block of `BLOCK`, change places such that
            the smallest pivots come first.
    """
    failures = []
    for own in _blocks(len(matrix)):
        done = slice(0, own.start)
        if own.start:
            rows = matrix[own.start :, done]
            subtract_product_(matrix[own.start :, own], rows, matrix[own, done].T)
        if order is not None and span > 1:
            _reorder(matrix, order, own, span)
        corner, failed = torch.linalg.cholesky_ex(matrix[own, own])
        failures.append(failed)
        matrix[own, own] = corner
        if own.stop < len(matrix):
            matrix[own.stop :, own] = torch.linalg.solve_triangular(
                corner.T, matrix[own.stop :, own], upper=True, left=False
            )
    # asked once: a look at each block would be to wait for each
    return not failures or not bool(torch.stack(failures).any())


def _reorder(matrix: Tensor, order: Tensor, own: slice, span: int) -> None:
    """Put the smallest pivots of a block first, inside spans, before it is factored."""
    corner = matrix[own, own].clone()
    ends = range(own.start // span * span + span, own.stop + span, span)
    stops = [min(end, own.stop) - own.start for end in ends]
    first = smallest_first(corner, stops).to(order.device)
    matrix[own, own] = corner[first][:, first]
    for rest in (matrix[own, : own.start], matrix[own.stop :, own].T):
        rest.copy_(rest[first])
    order[own] = order[own][first]


def invert_(matrix: Tensor) -> None:
    """Replace the lower triangle by its inverse.

    Below the inverse W of the rows above, a block row R with the corner C turns into
    -C^-1 R W. From left to right its blocks are not needed once they are replaced.
    """
    for own in _blocks(len(matrix)):
        corner = matrix[own, own]
        identity = torch.eye(len(corner), dtype=corner.dtype, device=corner.device)
        corner.copy_(torch.linalg.solve_triangular(corner, identity, upper=False))
        for to in _blocks(own.start):
            rest = slice(to.start, own.start)
            inner = product(matrix[own, rest], matrix[rest, to])
            matrix[own, to] = product(corner, inner).neg_()


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
    return product(delta, hessian).mul_(delta).sum(1).clamp(min=0)


def total_error(delta: Tensor, hessian: Tensor, limit: float = float("inf")) -> float:
    """tr(dW H dW^T), or what is known of it once it exceeds a limit.

    No row has a negative error, so a sum over some rows that is above the limit settles
    a comparison, often after a fraction of the work.

    Args:
        delta: [out, in], quantized minus original weights, float32.
        hessian: [in, in].
        limit: where to stop.
    """
    return summed_error((delta[rows] for rows in row_spans(delta)), hessian, limit)


def row_spans(matrix: Tensor) -> Iterator[slice]:
    """Rows of a matrix whose errors are added up at once."""
    rows = at_once(matrix, CHUNK, DEVICE_CHUNK)
    return (slice(at, at + rows) for at in range(0, len(matrix), rows))


def summed_error(
    deltas: Iterable[Tensor], hessian: Tensor, limit: float = float("inf")
) -> float:
    """`total_error` of a matrix that comes some rows at a time."""
    total = 0.0
    for delta in deltas:
        total += float(output_error(delta, hessian).sum())
        if total > limit:
            break
    return total
