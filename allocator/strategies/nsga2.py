"""Optuna's NSGA-II on score and size, kept inside the budget.

Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II" (2002). A
generation is one offspring here: parents are the elite, by non-domination and crowding,
of everything measured. What is over the budget comes last, as infeasible; offspring are
narrowed to the budget and filled up to it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState

from allocator.strategies._base import Candidate, Known, Strategy
from allocator.strategies._scratch import Levels, proposals

if TYPE_CHECKING:
    import numpy as np
    from optuna import Study
    from optuna.trial import FrozenTrial

POPULATION = 16
FEWEST = 4  # measured allocations before they have offspring


class _SteadyState(NSGAIISampler):
    """Takes all complete trials for the generation before."""

    def get_trial_generation(self, study: Study, trial: FrozenTrial) -> int:
        """Always the generation after the first."""
        del study, trial
        return 1

    def get_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """All complete trials."""
        del generation
        return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def get_parent_population(self, study: Study, generation: int) -> list[FrozenTrial]:
        """The elite of all complete trials; nobody where there are hardly any."""
        first = not generation or len(self.get_population(study, 0)) < FEWEST
        return [] if first else self.select_parent(study, generation)


class Nsga2(Strategy):
    """Asks Optuna's NSGA-II, with widths as ordered levels."""

    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """Offspring of the elite; random ones while little is measured."""
        levels = Levels(self.space)
        seed = int(rng.integers(2**31))
        sampler = _SteadyState(population_size=POPULATION, seed=seed)
        study = levels.study(known, sampler, sizes=True)
        found = islice(proposals(levels, study, known, rng), count)
        return [Candidate(each) for each in found] or self.anything(known, rng)


PLUGIN = Nsga2
