"""What all strategies share: an Optuna sampler that proposes whole allocations."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from allocator.strategies._moves import scatter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from allocator.core.allocation import Allocation, Choice
    from allocator.space import Space

# draws before a space that has little left to offer is called exhausted
PATIENCE = 200


class Strategy(BaseSampler):
    """Proposes allocations that keep the budget and were not measured before.

    Subclasses give `propose`. Randomness follows from the seed and the number of
    finished trials, so that a search that was stopped goes on as it would have.
    """

    def __init__(
        self,
        space: Space,
        seed: int = 0,
        damage: Mapping[tuple[str, Choice], float] | None = None,
    ) -> None:
        self.space = space
        self.seed = seed
        self.damage = damage

    @abstractmethod
    def propose(
        self,
        measured: list[tuple[Allocation, float]],
        taken: set[str],
        rng: np.random.Generator,
    ) -> Allocation | None:
        """An allocation whose digest is not in `taken`; None if none is found."""

    def anything(self, taken: set[str], rng: np.random.Generator) -> Allocation | None:
        """A random allocation that is not in `taken`; None if none is found."""
        for _ in range(PATIENCE):
            found = scatter(self.space, rng)
            if found.digest not in taken:
                return found
        return None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All groups are always decided together."""
        del study, trial
        return dict(self.space.distributions)

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial | None,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Parameters of the next trial; none where nothing new is left."""
        del trial, search_space
        trials = [t for t in study.get_trials(deepcopy=False) if t.params]
        # a failed trial may be tried again
        kept = [t for t in trials if t.state != TrialState.FAIL]
        taken = {self.space.allocation(t.params).digest for t in kept}
        measured = [
            (self.space.allocation(t.params), t.value)
            for t in kept
            if t.state == TrialState.COMPLETE and t.value is not None
        ]
        rng = np.random.default_rng([self.seed, len(measured)])
        found = self.propose(measured, taken, rng)
        return {} if found is None else self.space.params(found)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A parameter that is no group: refused, it could leave the budget."""
        del study, trial, param_distribution
        raise ValueError(f"{param_name!r} is not a group of this model")
