"""What ranks proposals: predicted score of an allocation, and how sure it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from surrogate.features import Features


FEW_ROWS = 60


class MonotoneTrees:
    """A bootstrap of gradient-boosted trees that keep the features' known directions.

    Every member sees the same rows with the weights of one bootstrap draw, and none may
    predict a loss where a feature marked +1 grows. Deterministic for a seed.

    Args:
        n_members: models in the bootstrap.
        seed: of the draws.
        rounds: trees per member.
        depth: of a tree.
        rate: learning rate.
    """

    members_: list[Any]
    names_: tuple[str, ...]
    offset_: float
    scale_: float

    def __init__(
        self,
        n_members: int = 16,
        seed: int = 0,
        rounds: int = 60,
        depth: int = 3,
        rate: float = 0.1,
    ) -> None:
        self.n_members = n_members
        self.seed = seed
        self.rounds = rounds
        self.depth = depth
        self.rate = rate

    def fit(
        self, features: Features, scores: ArrayLike, higher_is_better: bool = True
    ) -> MonotoneTrees:
        """Learn measured scores.

        Args:
            features: n rows, at least one.
            scores: [n], in any unit, finite.
            higher_is_better: whether a larger score is the better one.

        Raises:
            SpecError: no rows, another number of scores, or one that is not finite.
        """
        values = checked_scores(features, scores)
        self.names_ = features.names
        self.offset_ = float(values.mean())
        # xgboost drops splits that gain less than 1e-6, whatever the unit
        self.scale_ = (float(values.std()) or 1.0) * (1 if higher_is_better else -1)
        self.members_ = self._train(features, (values - self.offset_) / self.scale_)
        return self

    def predict(
        self, features: Features
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation over the members.

        Returns:
            mean [n] and spread [n], both in the unit of the scores. The optimistic
            score is mean + spread, or mean - spread where lower is better.

        Raises:
            SpecError: not fitted yet, or columns other than the fitted ones.
        """
        import xgboost

        if not hasattr(self, "members_"):
            raise SpecError("predict needs a fit before it")
        if features.names != self.names_:
            raise SpecError(
                f"fitted on columns {list(self.names_)}, got {list(features.names)}"
            )
        if len(features.matrix) == 0:
            return np.empty(0), np.empty(0)
        data = xgboost.DMatrix(features.matrix, nthread=1)
        votes = np.array([m.predict(data) for m in self.members_], dtype=np.float64)
        mean = self.offset_ + self.scale_ * votes.mean(axis=0)
        return mean, abs(self.scale_) * votes.std(axis=0)

    def _train(self, features: Features, target: NDArray[np.float64]) -> list[Any]:
        import xgboost

        rng = np.random.default_rng(self.seed)
        rows = len(target)
        data = xgboost.DMatrix(features.matrix, label=target, nthread=1)
        parameters = {
            # of few rows exact splits are the faster ones
            "tree_method": "exact" if rows <= FEW_ROWS else "hist",
            "max_depth": self.depth,
            "eta": self.rate,
            "base_score": 0.0,
            "nthread": 1,
            "verbosity": 0,
            "monotone_constraints": f"({','.join(map(str, features.monotone))})",
        }
        members = []
        for _ in range(self.n_members):
            draw = rng.integers(rows, size=rows)
            data.set_weight(np.bincount(draw, minlength=rows).astype(np.float32))
            members.append(xgboost.train(parameters, data, self.rounds))
        return members


def checked_scores(features: Features, scores: ArrayLike) -> NDArray[np.float64]:
    """Scores [n] to fit to n rows of features.

    Raises:
        SpecError: no rows, another number of scores, or one that is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    rows = len(features.matrix)
    if rows == 0 or values.shape != (rows,):
        raise SpecError(f"{rows} rows of features need as many scores, at least one")
    if not np.isfinite(values).all():
        raise SpecError("scores to fit must be finite numbers")
    return values
