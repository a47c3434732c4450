"""What was measured as a study of Optuna's, for its own samplers to learn from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import create_trial

from allocator.space.base import of_method
from allocator.strategies._moves import fill, repair

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    import numpy as np
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

    from allocator.core.allocation import Allocation, Choice
    from allocator.space.base import Space
    from allocator.strategies._base import Known

# a study is made for every proposal: nobody wants to be told
optuna.logging.set_verbosity(optuna.logging.ERROR)

# proposals asked of a sampler before it is said to have nothing new
TRIES = 30
# name of the constraint, and of a group's method beside its width
ROOM, METHOD = "bytes over the budget", "{} method"


class Levels:
    """Allocations as a sampler sees them: widths as ordered levels, methods as names.

    A group whose width has no method, or not the one asked for, takes the first there
    is; an allocation over the budget carries by how much as a constraint. Groups that
    have no choice are left out.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.methods = sorted({c.method for c in space.choices if c.method})
        self.keys = [key for key in space.keys if len(space.allowed[key]) > 1]
        self.distributions: dict[str, BaseDistribution] = {}
        for key in self.keys:
            self.distributions[key] = IntDistribution(0, len(space.levels[key]) - 1)
            if len(self.methods) > 1:
                names = CategoricalDistribution(self.methods)
                self.distributions[METHOD.format(key)] = names

    def params(self, allocation: Allocation) -> dict[str, Any]:
        """An allocation as parameters; a width not offered is the next below."""
        found: dict[str, Any] = {}
        for key, own in allocation:
            if key not in self.distributions:
                continue
            widths = self.space.levels[key]
            found[key] = max(sum(bits <= own.bits for bits in widths) - 1, 0)
            if len(self.methods) > 1:
                method = own.method or self.methods[0]
                found[METHOD.format(key)] = method
        return found

    def allocation(self, params: Mapping[str, Any]) -> Allocation:
        """Parameters as an allocation, whether it fits or not."""
        picks: dict[str, Choice] = {}
        for key in self.keys:
            choices = list(self.space.levels[key].values())[params[key]]
            picks[key] = of_method(choices, params.get(METHOD.format(key)))
        return self.space.smallest.replace(picks)

    def study(
        self, known: Known, sampler: BaseSampler, sizes: bool = False
    ) -> optuna.Study:
        """A study in memory that holds what was measured, as far as it keeps the pins.

        Args:
            known: what was measured.
            sampler: of the study.
            sizes: whether bytes are a second objective, to be made small.
        """
        study = optuna.create_study(
            directions=["maximize", "minimize"] if sizes else ["maximize"],
            sampler=sampler,
        )
        kept = [pair for pair in known.measured if self.space.keeps_pins(pair[0])]
        study.add_trials([self._trial(*pair, sizes) for pair in kept])
        return study

    def _trial(
        self, allocation: Allocation, score: float, sizes: bool
    ) -> optuna.trial.FrozenTrial:
        bytes_ = self.space.bytes(allocation)
        over = bytes_ - self.space.room
        return create_trial(
            values=[score, bytes_] if sizes else [score],
            params=self.params(allocation),
            distributions=self.distributions,
            constraints={ROOM: 0.0 if self.space.fits(allocation) else max(over, 1.0)},
        )


def proposals(
    levels: Levels, study: optuna.Study, known: Known, rng: np.random.Generator
) -> Iterator[Allocation]:
    """What a study's sampler proposes, narrowed to the budget and filled up to it.

    Different ones that can be measured and are not taken; ends when too many were not.
    """
    space, taken = levels.space, set(known.taken)
    # where nothing is left to decide, samplers have nothing to say
    for _ in range(TRIES if levels.distributions else 0):
        trial = study.ask(levels.distributions)
        whole = repair(space, levels.allocation(trial.params), rng)
        found = space.nearest(fill(space, whole, rng), taken)
        if found is not None:
            taken.add(found.digest)
            yield found
