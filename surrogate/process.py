"""A smooth model of few scores: a Gaussian process averaged over its own settings.

Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2 and
5. With a handful of scores no single choice of length scales can be trusted: settings
are drawn from a prior and weighted by how likely they make the scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allocator.core.errors import SpecError
from surrogate.model import checked_scores

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from surrogate.features import Features

    Array = NDArray[np.float64]

# a factor of two in bits is a length scale to begin with, give or take a factor of two;
# more columns share the distance among them
LENGTH, LENGTH_SPREAD = 1.0, 0.8
# the standardized scores' variance far from any, and its spread, both as logarithms
LEVEL, LEVEL_SPREAD = 0.5, 0.5
# noise variance of standardized scores, in powers of ten
NOISE = (-3.0, -0.7)


class GaussianProcess:
    """Predicts scores that change smoothly with the columns.

    Squared-exponential kernel with one length scale for each column; columns are
    expected in the unit of log2 bits. Deterministic for a seed.

    Args:
        draws: settings to average over.
        seed: of the draws.
    """

    def __init__(self, draws: int = 40, seed: int = 0) -> None:
        self.draws = draws
        self.seed = seed

    def fit(self, features: Features, scores: ArrayLike) -> GaussianProcess:
        """Learn measured scores.

        Args:
            features: n rows, at least one.
            scores: [n], in any unit, finite.

        Raises:
            SpecError: no rows, another number of scores, or one that is not finite.
        """
        values = checked_scores(features, scores)
        columns = features.matrix.shape[1]
        self.seen_ = features.matrix
        self.offset_ = float(values.mean())
        self.scale_ = float(values.std()) or 1.0
        rng = np.random.default_rng(self.seed)
        spread = rng.normal(0.0, LENGTH_SPREAD, (self.draws, columns))
        # three columns: the size at which the prior was thought about
        self.lengths_ = LENGTH * np.exp(spread) * np.sqrt(columns / 3)
        self.levels_ = np.exp(rng.normal(LEVEL, LEVEL_SPREAD, self.draws))
        self.noises_ = 10 ** rng.uniform(*NOISE, self.draws)
        self._condition((values - self.offset_) / self.scale_)
        return self

    def predict(self, features: Features) -> tuple[Array, Array]:
        """Mean and standard deviation of the score, noise left out.

        Returns:
            mean [n] and spread [n], both in the unit of the scores.

        Raises:
            SpecError: not fitted yet, or another number of columns.
        """
        if not hasattr(self, "seen_"):
            raise SpecError("predict needs a fit before it")
        if features.matrix.shape[1] != self.seen_.shape[1]:
            raise SpecError(
                f"fitted on {self.seen_.shape[1]} columns, "
                f"got {features.matrix.shape[1]}"
            )
        square = _squares(features.matrix, self.seen_)
        means, variances = [], []
        for draw in range(self.draws):
            kernel = self._kernel(square, draw)
            half = np.linalg.solve(self.roots_[draw], kernel.T)
            means.append(half.T @ self.halves_[draw])
            rest = self.levels_[draw] - (half**2).sum(axis=0)
            variances.append(np.maximum(rest, 0.0))
        mean = self.weights_ @ np.array(means)
        within = self.weights_ @ np.array(variances)
        between = self.weights_ @ (np.array(means) - mean) ** 2
        spread: Array = self.scale_ * np.sqrt(within + between)
        return self.offset_ + self.scale_ * mean, spread

    def _condition(self, target: Array) -> None:
        """Factor the kernel of every draw and weigh it by its marginal likelihood."""
        square = _squares(self.seen_, self.seen_)
        eye = np.eye(len(target))
        self.roots_, self.halves_, likelihoods = [], [], []
        for draw in range(self.draws):
            kernel = self._kernel(square, draw) + self.noises_[draw] * eye
            root = np.linalg.cholesky(kernel)
            half = np.linalg.solve(root, target)
            likelihoods.append(-0.5 * half @ half - np.log(np.diag(root)).sum())
            self.roots_.append(root)
            self.halves_.append(half)
        weights = np.exp(np.array(likelihoods) - max(likelihoods))
        self.weights_ = weights / weights.sum()

    def _kernel(self, square: Array, draw: int) -> Array:
        """Covariances [n, m] under one draw of the settings."""
        distance = square @ self.lengths_[draw] ** -2
        kernel: Array = self.levels_[draw] * np.exp(-0.5 * distance)
        return kernel


def _squares(one: Array, other: Array) -> Array:
    """Squared differences of every column, [n, m, columns]."""
    squares: Array = (one[:, None, :] - other[None, :, :]) ** 2
    return squares
