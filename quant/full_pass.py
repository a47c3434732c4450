"""Stages at full precision, beside quantized ones: what linears read, and states.

None of it depends on an allocation, so a stage runs once for all of its sibling sets,
and `quant.passes` may keep what came out for the next allocation. Where the inputs of a
stage's sets are too large to keep even while it is worked on, it runs again for each.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.memory import share
from quant.calibration import listening
from quant.lru_cache import size_of
from quant.passes import all_states
from quant.routed import Routed, experts_of, routing

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor

    from allocator.core.ports import Siblings, Stage, State
    from quant.passes import Passes
    from quant.routed import Experts
    from quant.streaming import Spool

# of the inputs of one stage's sets, all batches together
READ_BYTES = 2**28
# by the first linear of a set what it reads, by a module of experts what calls it
Reads = dict[str, "list[Any]"]


class _EnoughError(BaseException):
    """All that is read has been read: no error, what comes behind would be thrown away.

    No `Exception`, which a stage would take for a failure of the model.
    """


def reads_of(
    module: Any, stage: Stage, siblings: Siblings, state: State, count: int | None
) -> list[Tensor]:
    """What a sibling set reads in one batch, without padding: [n, in] each.

    Args:
        module: the model, the stage loaded.
        stage: the set's.
        siblings: the set.
        state: the batch in front of the stage.
        count: how often the set reads, if that is known: the stage runs no further.
    """

    def watching(take: Callable[[Tensor], object]) -> AbstractContextManager[None]:
        return listening(module, stage, [(siblings, take)], state)

    return _taken(stage, state, count, _rows, watching)


def calls_of(
    stage: Stage, experts: Experts, state: State, count: int | None
) -> list[Routed]:
    """What a module of experts is called with in one batch, without padding.

    Args:
        stage: that it is in, loaded.
        experts: the module.
        state: the batch in front of the stage.
        count: how often it is called, if that is known: the stage runs no further.
    """

    def watching(take: Callable[[Routed], object]) -> AbstractContextManager[None]:
        return routing(stage, {experts: take}, state)

    return _taken(stage, state, count, _kept, watching)


def _taken(
    stage: Stage,
    state: State,
    count: int | None,
    kept: Callable[[Any], Any],
    watching: Callable[[Callable[[Any], object]], AbstractContextManager[None]],
) -> list[Any]:
    """What is handed over while a stage runs, up to so many of it."""
    found: list[Any] = []

    def take(given: Any) -> None:
        found.append(kept(given))
        if len(found) == count:
            raise _EnoughError

    with suppress(_EnoughError), watching(take):
        stage.run(state)
    return found


def _kept(routed: Routed) -> Routed:
    """A call whose tensors nobody changes any more."""
    return Routed(*(each.clone() for each in routed))


def _rows(x: Tensor) -> Tensor:
    """Inputs [..., in] as rows [n, in] that nobody changes any more."""
    return x.reshape(-1, x.shape[-1]).clone()


def _keeping(to: Reads, name: str, kept: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Who keeps what is handed over, under a name."""
    row = to.setdefault(name, [])
    return lambda given: row.append(kept(given))


@dataclass
class FullPass:
    """A pass at full precision that keeps step with a quantized one.

    Attributes:
        module: the model; whoever runs a stage has loaded it.
        states: those in front of the stage that is worked on.
        passes: keeps what came out.
        name: of what full precision depends on.
        aside: puts full precision back in place for a while.
    """

    module: Any
    states: Spool
    passes: Passes
    name: str
    aside: Callable[[], AbstractContextManager[None]]
    _reads: list[Reads] | None = field(default=None, init=False)
    _behind: list[State] | None = field(default=None, init=False)

    def kept(self, at: int) -> list[State] | None:
        """States in front of a stage, if `passes` has them."""
        found: list[State] | None = self.passes.get(self.name, "states", at)
        return found

    def enter(self, at: int, stage: Stage) -> None:
        """Begin a stage whose sets are to be quantized; no weight is replaced yet."""
        self._reads = self.passes.get(self.name, "reads", at)
        if self._reads is None:
            self._look(at, stage)

    def _look(self, at: int, stage: Stage) -> None:
        """Run a stage once for all of its sets, unless they read too much."""
        reads: list[Reads] = []
        behind: list[State] = []
        most = share(1 / 16, READ_BYTES)
        for n in range(len(self.states)):
            own: Reads = {}
            takers = [
                (s, _keeping(own, s.names[0], _rows))
                for s in stage.siblings
                if not s.pool
            ]
            called = {
                each: _keeping(own, each.name, _kept)
                for each in experts_of(self.module, stage.siblings)
            }
            state = self.states[n]
            with (
                listening(self.module, stage, takers, state),
                routing(stage, called, state),
            ):
                behind.append(stage.run(state))
            reads.append(own)
            if size_of([own, behind[-1]]) * len(self.states) > most:
                return
        self._reads, self._behind = reads, behind
        self.passes.put(reads, self.name, "reads", at)

    def read(self, stage: Stage, siblings: Siblings, number: int) -> list[Tensor]:
        """What a set reads in a batch: [n, in] each."""
        if self._reads is not None:
            return self._reads[number][siblings.names[0]]
        with self.aside():
            return reads_of(self.module, stage, siblings, self.states[number], None)

    def calls(self, stage: Stage, experts: Experts, number: int) -> list[Routed]:
        """What a module of experts is called with in a batch."""
        if self._reads is not None:
            return self._reads[number][experts.name]
        with self.aside():
            return calls_of(stage, experts, self.states[number], None)

    def leave(self, at: int, stage: Stage) -> None:
        """Take the states behind a stage."""
        behind = self._behind or self.kept(at + 1)
        with self.aside():
            for n in range(len(self.states)):
                self.states[n] = behind[n] if behind else stage.run(self.states[n])
        self._reads = self._behind = None
        self.keep(at + 1)

    def keep(self, at: int) -> None:
        """Keep the states for the next pass, as those in front of a stage."""
        self.passes.put(all_states(self.states), self.name, "states", at)
