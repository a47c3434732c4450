"""What all strategies share: an Optuna sampler that proposes whole allocations."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from allocator.core.finite import finite_damage, is_number
from allocator.strategies._moves import scatter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from allocator.core.allocation import Allocation, Choice
    from allocator.space.base import Space

# draws before a space that has little left to offer is called exhausted
PATIENCE = 200
# candidates beside the proposal that Optuna is told of, with their predictions
TOLD = 2
PREDICTED, SPREAD = "predicted score", "spread of the prediction"


@dataclass(frozen=True)
class Known:
    """What is known when something is proposed.

    `measured` are scores of the full search set, `estimated` those that cheap looks
    suggest, also for what was measured; none of the digests in `taken` may be proposed.
    Neither may what is `pending`: proposed, or being measured by others, without a
    score yet. A strategy finds these digests in `taken` as well.
    """

    measured: tuple[tuple[Allocation, float], ...]
    estimated: tuple[tuple[Allocation, float], ...] = ()
    taken: frozenset[str] = frozenset()
    pending: tuple[Allocation, ...] = ()

    @staticmethod
    def of(space: Space, study: Study) -> Known:
        """What the trials of an Optuna study say.

        A failed trial may be tried again, and so may one that nothing but a prediction
        has pruned. One that runs is pending.
        """
        trials = [t for t in study.get_trials(deepcopy=False) if t.params]
        again = (TrialState.FAIL, TrialState.PRUNED)
        kept = [(space.allocation(t.params), t) for t in trials if t.state not in again]
        return Known(
            tuple((a, t.value) for a, t in kept if t.value is not None),
            taken=frozenset(a.digest for a, _ in kept),
            pending=tuple(a for a, t in kept if not t.state.is_finished()),
        )

    @property
    def finite(self) -> Known:
        """The same without scores that are no finite numbers: nothing learns of them.

        What has such a score stays taken.
        """
        measured, estimated = (
            tuple((a, score) for a, score in pairs if is_number(score))
            for pairs in (self.measured, self.estimated)
        )
        return Known(measured, estimated, self.taken, self.pending)

    @property
    def barring(self) -> Known:
        """The same with what is pending among what may not be proposed."""
        gone = self.taken.union(each.digest for each in self.pending)
        return replace(self, taken=gone)


@dataclass(frozen=True)
class Candidate:
    """An allocation to measure; the prediction is that of a model, if there is one."""

    allocation: Allocation
    predicted: float | None = None
    spread: float | None = None

    @property
    def about(self) -> dict[str, float]:
        """The prediction as attributes of a trial."""
        if self.predicted is None or self.spread is None:
            return {}
        return {PREDICTED: self.predicted, SPREAD: self.spread}


class Strategy(BaseSampler):
    """Proposes allocations that keep the budget and were not measured before.

    Subclasses give `candidates`. Randomness follows from the seed and the numbers of
    measured and of pending trials, so that a search that was stopped goes on as it
    would have, and asking again before there is a score draws anew.

    Args:
        space: what may be proposed.
        seed: of everything random.
        damage: loss of a single group at a choice, in any additive unit; None where no
            such prior exists.
    """

    # how many candidates cheap rungs should look at for each that is measured in full
    offspring = 1
    # whether another seed gives other proposals
    seeded = True

    def __init__(
        self,
        space: Space,
        seed: int = 0,
        damage: Mapping[tuple[str, Choice], float] | None = None,
    ) -> None:
        self.space = space
        self.seed = seed
        self.damage = None if damage is None else finite_damage(damage)

    @abstractmethod
    def candidates(
        self, known: Known, count: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """Up to `count` different allocations that fit and are not taken, best first.

        None at all where nothing new is left.
        """

    def anything(self, known: Known, rng: np.random.Generator) -> list[Candidate]:
        """A random allocation that fits and is not taken, or none."""
        for _ in range(PATIENCE):
            found = self.space.nearest(scatter(self.space, rng), known.taken)
            if found is not None:
                return [Candidate(found)]
        return []

    def ask(self, known: Known, count: int = 1) -> list[Candidate]:
        """Candidates for the next trial, best first."""
        drawn = [self.seed, len(known.measured)]
        drawn += [len(known.pending)] if known.pending else []
        rng = np.random.default_rng(drawn)
        return self.candidates(known.finite.barring, count, rng)

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
        """Parameters of the next trial; none where nothing new is left.

        The runners-up are told to the study as pruned, with the prediction that did it.
        """
        del trial, search_space
        found = self.ask(Known.of(self.space, study), 1 + TOLD)
        for passed in found[1:]:
            if passed.about:
                study.add_trial(
                    create_trial(
                        state=TrialState.PRUNED,
                        params=self.space.params(passed.allocation),
                        distributions=dict(self.space.distributions),
                        user_attrs=passed.about,
                    )
                )
        return self.space.params(found[0].allocation) if found else {}

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
