"""Pieces of a search that any process can do: batches, looks, probes, as plain data.

A piece names an allocation, the weights it is to have, and samples by their places in a
set of the request. What comes out names the cells that were in place, so that it counts
for these alone, wherever they were put in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import torch

from allocator.bench.divergence import kl, known
from allocator.bench.finalize import BANK, FAILED, NOT_FINALIZED, TUNED, finalize
from allocator.bench.replies import replied
from allocator.core.allocation import Allocation
from allocator.core.errors import reason
from allocator.core.finite import is_number
from allocator.core.ports import Decoding
from evals.taskset import tasks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample
    from allocator.core.watch import Watch
    from allocator.space.model import ModelSpace

    Piece = dict[str, Any]

REPLIES, LOOK, PROBE = "replies", "look", "probe"


@dataclass
class Pieces:
    """Writes pieces of a request down, and does them on a bench.

    `make` gives the weights of an allocation that were quantized in sequence; by
    default they are opened here, or made.
    """

    setup: Setup
    bench: Workbench
    watch: Watch
    make: Callable[[Allocation, str], Any] | None = None
    _finals: dict[tuple[str, str], Any] = field(default_factory=dict)
    _places: dict[Sample, tuple[str, int]] = field(default_factory=dict)

    def replies(
        self,
        allocation: Allocation,
        task: str,
        batch: Sequence[Sample],
        weights: str = BANK,
    ) -> Piece:
        """Let the model reply to a batch of a task: its replies, and those cut off."""
        about = {"kind": REPLIES, "task": task, "weights": weights}
        return {**about, **self._told(allocation), "samples": self._named(batch)}

    def look(
        self, allocation: Allocation, samples: Sequence[Sample], *, fine: bool = False
    ) -> Piece:
        """How far an allocation diverges; `fine` is one of single linears."""
        about = {"kind": LOOK, "fine": fine, **self._told(allocation, fine=fine)}
        return {**about, "samples": self._named(samples)}

    def probe(
        self, allocation: Allocation, samples: Sequence[Sample], *, fine: bool = False
    ) -> Piece:
        """What one group alone does, in nats (`allocator.bench.probes`)."""
        return {**self.look(allocation, samples, fine=fine), "kind": PROBE}

    def done(self, pieces: Sequence[Piece]) -> Iterator[dict[str, Any]]:
        """What comes out of each, one after the other; neighbours share what they can.

        Of weights that cannot be made it is the reason alone.
        """
        for piece, ahead in zip_longest(pieces, pieces[1:]):
            if piece["kind"] == REPLIES:
                yield self._replied(piece)
            else:
                yield self._looked(piece, ahead)

    def _replied(self, piece: Piece) -> dict[str, Any]:
        allocation = self._read(piece)
        if piece["weights"] == BANK:
            return self._batch(self.bench, allocation, piece)
        try:
            made = (self.make or self._final)(allocation, piece["weights"])
        except NOT_FINALIZED as error:
            return {FAILED: reason(error)}
        with self.bench.under(made) as bench:
            return self._batch(bench, allocation, piece)

    def _batch(
        self, bench: Workbench, allocation: Allocation, piece: Piece
    ) -> dict[str, Any]:
        (task,) = (t for t in tasks_of(bench.task) if t.name == piece["task"])
        bench.apply(allocation)
        limit = task.max_new_tokens
        decoding = Decoding(limit, beams=bench.beams, rerank=bench.rerank)
        batch = self._samples(piece)
        # weights may be tuned before, which needs gradients
        with torch.inference_mode():
            found = list(replied(bench, [batch], decoding, lambda _: None, 0))
        replies = [reply for own, _ in found for reply in own]
        cut = sum(lacking for _, lacking in found)
        return {"applied": bench.applied(allocation), "replies": replies, "cut": cut}

    def _final(self, allocation: Allocation, weights: str) -> Any:
        """Weights that were quantized in sequence: opened, or made first."""
        key = allocation.digest, weights
        if key not in self._finals:
            tuned = weights == TUNED
            made = finalize(self.setup, allocation, self.watch, tuned=tuned)
            self._finals[key] = made
        return self._finals[key]

    def _looked(self, piece: Piece, ahead: Piece | None) -> dict[str, Any]:
        bench = self.bench_of(fine=piece["fine"])
        allocation, samples = self._read(piece), self._samples(piece)
        is_next = ahead is not None and ahead["kind"] == piece["kind"]
        following = self._read(ahead) if ahead is not None and is_next else None
        if piece["kind"] == LOOK:
            value = bench.divergence(allocation, samples, following)
        else:
            value = self._damage(bench, allocation, samples, following)
        return {
            "applied": bench.applied(allocation),
            "value": value if is_number(value) else None,
        }

    def _damage(
        self,
        bench: Workbench,
        allocation: Allocation,
        samples: Sequence[Sample],
        ahead: Allocation | None,
    ) -> float:
        name = ("probed", *(sample.id for sample in samples))
        if name not in bench.references:
            full = self._space(fine=False).full.over(self.setup.model, bench.spec)
            bench.references[name] = bench.logits(full, samples, allocation)
        full_logits = bench.references[name]
        other = bench.logits(allocation, samples, ahead)
        return float(kl(full_logits, other)[known(full_logits)].mean())

    @cached_property
    def _fine(self) -> ModelSpace:
        return self.setup.space.by_linear()

    def bench_of(self, *, fine: bool) -> Workbench:
        """The bench, or the same over single linears."""
        return self.bench.over(self._fine.spec) if fine else self.bench

    def _space(self, fine: bool) -> ModelSpace:
        return self._fine if fine else self.setup.space

    def _told(self, allocation: Allocation, *, fine: bool = False) -> Piece:
        labels = list(self._space(fine).by_label)
        return {
            "choices": [labels.index(str(choice)) for _, choice in allocation],
            "layers": {name: str(choice) for name, choice in allocation.layers},
        }

    def _read(self, piece: Piece) -> Allocation:
        space = self._space(piece.get("fine", False))
        choices = list(space.by_label.values())
        picks = (choices[place] for place in piece["choices"])
        whole = Allocation(tuple(zip(space.keys, picks, strict=True)))
        layers = {n: space.by_label[label] for n, label in piece["layers"].items()}
        return whole.but(layers) if layers else whole

    def _named(self, samples: Sequence[Sample]) -> list[tuple[str, int]]:
        if not self._places:
            for split, own in self.setup.samples.items():
                for place, sample in enumerate(own):
                    self._places.setdefault(sample, (split, place))
        return [self._places[sample] for sample in samples]

    def _samples(self, piece: Piece) -> list[Sample]:
        sets = self.setup.samples
        return [sets[split][place] for split, place in piece["samples"]]
