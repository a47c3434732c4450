"""Run the stages of what is in place; what did not change in front is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.in_place import applied_digest
from allocator.core.allocation import digest
from allocator.core.ports import POSITIONS
from quant.finalized import Finalized
from quant.lru_cache import size_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from allocator.bench.in_place import InPlace
    from allocator.core.cost import Cost
    from allocator.core.ports import Model, State
    from quant.lru_cache import LRUCache

# of replies behind the prompts, tokens that are read
READ = 8


@dataclass(frozen=True)
class Forward:
    """The stages of a model with the weights that are in place now.

    What the components of the model's prefix make of the images depends on the choices
    up to there alone, so it is `kept` by the digest of those choices and reused.
    """

    model: Model
    in_place: InPlace
    kept: LRUCache
    cost: Cost

    def features(self, name: tuple[str, ...], state: State) -> Any:
        """What the prefix makes of a batch, from the last component that is kept.

        Args:
            name: of the batch; samples come last in it, by their number.
            state: its inputs.
        """
        prefix = self.model.prefix
        # where folding rounds what has no cell, equal choices are not all there is
        cuts = [
            (self._named(prefix[:at]), self.in_place.has_changed, name)
            for at in range(1, len(prefix) + 1)
        ]
        samples = int(name[-1])
        found = self.kept.get(cuts[-1])
        if found is not None:
            self.cost.reused += samples * len(prefix)
            return found
        begin = 0
        for at in range(len(prefix) - 1, 0, -1):
            kept = self.kept.get(cuts[at - 1])
            if kept is not None:
                begin, state = at, {**state, **kept}
                break
        self.cost.reused += samples * begin
        for at in range(begin, len(prefix)):
            before, state = state, self.run(state, prefix[at])
            self.cost.ran += samples
            if at + 1 < len(prefix):
                new = {k: v for k, v in state.items() if v is not before.get(k)}
                self.kept.put(cuts[at], size_of(new), new)
        found = self.model.features(state)
        self.kept.put(cuts[-1], size_of(found), found)
        return found

    def _named(self, components: Sequence[str]) -> str:
        """Name of what the linears of some components have.

        Of a bank equal choices are equal cells. Finalized weights have others for each
        allocation, and folding has changed more than linears.
        """
        wanted, cells = self.in_place.current, self.in_place.cells
        own = [x for x in self.in_place.linears if x.component in components]
        if not isinstance(cells, Finalized):
            return digest([[x.name, str(wanted[x.name])] for x in own])
        stages = [s for s in self.model.stages() if s.component in components]
        uses = {name for stage in stages for name in stage.uses}
        starts = tuple(f"{name}." for name in uses)
        folded = {
            name: value
            for name, value in cells.changed_sums.items()
            if name in uses or name.startswith(starts)
        }
        return digest([applied_digest(own, wanted, cells), folded])

    @torch.inference_mode()
    def run(self, state: State, component: str | None = None) -> State:
        """Run the stages of a component, or all behind the prefix."""
        for stage in self.model.stages():
            own = stage.component
            if own == component or (component is None and own not in self.model.prefix):
                state = stage.run(state)
        return state

    def logits(
        self, name: tuple[str, ...], state: State, replied: Tensor | None
    ) -> Tensor:
        """Next-token logits of a batch: [samples, positions, vocabulary].

        Args:
            name: of the batch, as for `features`.
            state: its inputs.
            replied: as for `looked_at`.
        """
        features = self.features(name, state)
        looked = {POSITIONS: looked_at(len(state["input_ids"]), replied)}
        logits: Tensor = self.run({**state, "features": features, **looked})["logits"]
        return logits


def looked_at(samples: int, replied: Tensor | None) -> Tensor:
    """Positions whose next tokens are looked at, from the end: [samples, positions].

    Args:
        samples: whose prompts are padded on the left.
        replied: [samples] tokens of the replies behind the prompts; None: none.
    """
    if replied is None:
        return torch.full((samples, 1), -1)
    return (torch.arange(READ) - 1 - replied.cpu()[:, None]).clamp(max=-1)
