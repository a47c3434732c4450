"""Run the stages of what is in place; what did not change in front is kept."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.ports import POSITIONS
from quant.lru_cache import size_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import Tensor

    from allocator.bench.cuts import Cuts
    from allocator.bench.in_place import InPlace
    from allocator.core.allocation import Choice
    from allocator.core.cost import Cost
    from allocator.core.ports import Model, State
    from quant.lru_cache import LRUCache

# of replies behind the prompts, tokens that are read
READ = 8


@dataclass(frozen=True)
class Forward:
    """The stages of a model with the weights that are in place as long as this is used.

    What reaches a cut depends on the choices in front of it alone, so it is `kept` by
    the name of those choices and reused. Kept is what may be begun from: the deeper the
    cut the more, and only where the weights of what comes next, which are `ahead`, are
    the same up to there (None: nobody knows; then they may be all the same).
    """

    model: Model
    in_place: InPlace
    cuts: Cuts
    kept: LRUCache
    cost: Cost
    ahead: Mapping[str, Choice] | None = None

    @cached_property
    def _names(self) -> dict[int, str]:
        """By cut, the name of what is in place in front of it."""
        return self._named(self.in_place.current)

    @cached_property
    def _worth(self) -> dict[str, int]:
        """Cuts that what comes next may begin at, by their names."""
        names = self._names
        next_ = names if self.ahead is None else self._named(self.ahead)
        return {name: at for at, name in names.items() if next_[at] == name}

    def _named(self, wanted: Mapping[str, Choice]) -> dict[int, str]:
        now = self.in_place
        return self.cuts.names(wanted, now.cells, has_changed=now.has_changed)

    def features(self, name: tuple[str, ...], state: State) -> Any:
        """What the prefix makes of a batch, from the last cut that is kept.

        Args:
            name: of the batch; samples come last in it, by their number.
            state: its inputs.
        """
        cuts = self.cuts
        return self.model.features(self._reach(cuts.prefix, name, state, cuts.ends))

    def logits(
        self, name: tuple[str, ...], state: State, replied: Tensor | None
    ) -> Tensor:
        """Next-token logits of a batch: [samples, positions, vocabulary].

        Args:
            name: of the batch, as for `features`.
            state: its inputs.
            replied: as for `looked_at`.
        """
        cuts = self.cuts
        looked = {**state, POSITIONS: looked_at(len(state["input_ids"]), replied)}
        done = self._reach(len(cuts.stages), name, looked, cuts.places)
        logits: Tensor = done["logits"]
        return logits

    @torch.inference_mode()
    def _reach(
        self, end: int, name: tuple[str, ...], given: State, keep: Collection[int]
    ) -> State:
        """The state of a batch behind so many stages.

        Args:
            end: stages.
            name: of the batch.
            given: its inputs.
            keep: the cuts at which states are kept.
        """
        begin, state = 0, given
        for at in reversed([place for place in self.cuts.places if place <= end]):
            found = self.kept.get((self._names[at], name))
            if found is not None:
                begin, state = at, {**given, **found}
                break
        samples = int(name[-1])
        self.cost.reused += samples * self.cuts.blocks(0, begin)
        self.cost.ran += samples * self.cuts.blocks(begin, end)
        for at, stage in enumerate(self.cuts.stages[begin:end], begin + 1):
            state = stage.run(state)
            if at in keep:
                self._keep(at, name, given, state)
        return state

    def _keep(self, at: int, name: tuple[str, ...], given: State, state: State) -> None:
        """Keep what a state has beside the inputs, where somebody may begin there."""
        if self._names[at] not in self._worth:
            return
        new = {k: v for k, v in state.items() if k not in given or v is not given[k]}
        key = self._names[at], name
        self.kept.put_for(key, size_of(new), new, lambda k: self._worth.get(k[0], -1))


def looked_at(samples: int, replied: Tensor | None) -> Tensor:
    """Positions whose next tokens are looked at, from the end: [samples, positions].

    Args:
        samples: whose prompts are padded on the left.
        replied: [samples] tokens of the replies behind the prompts; None: none.
    """
    if replied is None:
        return torch.full((samples, 1), -1)
    return (torch.arange(READ) - 1 - replied.cpu()[:, None]).clamp(max=-1)
