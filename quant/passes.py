"""What finalizations of one model have in common, kept while a search goes on.

Allocations that a search finalizes differ little. What lies in front of the first stage
that differs is what it was: its cells are taken over from an earlier result, and the
states behind it from memory. What full precision gives depends on no allocation at all.
Everything kept is what would be computed again, to the last bit.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import FULL, digest
from allocator.core.errors import BankError
from allocator.core.memory import share
from quant.cells import file_of
from quant.lru_cache import LRUCache, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.core.ports import Model, Stage, State
    from quant.assignment import Assignment
    from quant.bank import Recipe
    from quant.build import Source
    from quant.finalized import Finalized

HELD_BYTES = 2**28


@dataclass
class Passes:
    """What is kept between finalizations; for one thread.

    Attributes:
        limit_bytes: of states and inputs in memory; the longest unused go first. With 0
            cells alone are taken over, and the states behind them computed again.
        stages: number of stages that were quantized so far, by those who share it.
    """

    limit_bytes: int = field(default_factory=lambda: share(1 / 16, HELD_BYTES))
    stages: int = 0
    _kept: LRUCache = field(init=False, repr=False)
    _results: list[tuple[Assignment, Finalized]] = field(default_factory=list)
    _made: dict[str, Finalized] = field(default_factory=dict)
    _model: tuple[str, Model] | None = None

    def __post_init__(self) -> None:
        self._kept = LRUCache(self.limit_bytes)

    def model(self, recipe: Recipe, source: Source) -> Model:
        """The model of a recipe, read unless it was the last one asked for."""
        name = digest([recipe.weights, recipe.arithmetic, source.device])
        if self._model is None or self._model[0] != name:
            self._model = (name, source.model())
        return self._model[1]

    def get(self, *key: Any) -> Any:
        """What is kept under a key, or None."""
        return self._kept.get(key)

    def put(self, value: Any, *key: Any) -> None:
        """Keep something made of tensors, if there is room at all."""
        self._kept.put(key, size_of(value), value)

    def add(self, wanted: Assignment, result: Finalized) -> None:
        """Know of finalized weights whose cells may be taken over."""
        self._results.append((wanted, result))

    def earlier(
        self, wanted: Assignment, stages: Sequence[Stage], most: int
    ) -> Iterator[tuple[int, Finalized]]:
        """Results that begin as an assignment does, and for how many stages.

        Args:
            wanted: what is to be made.
            stages: all those of the model.
            most: how many of them may be taken over.

        Yields:
            Those that share the most stages first, each once.
        """
        while self._results:
            other, result = self._results.pop()
            self._made |= dict.fromkeys(beginnings(other, stages), result)
        last = None
        for count, name in reversed(list(enumerate(beginnings(wanted, stages[:most])))):
            found = self._made.get(name)
            if count and found is not None and found is not last:
                yield count, found
            last = found


def beginnings(wanted: Assignment, stages: Sequence[Stage]) -> list[str]:
    """Names of what an assignment makes of the first stages: of none, one, two, ..."""
    keys, names = wanted.keys, [digest(wanted.settings)]
    for stage in stages:
        own = {name: keys.get(name, str(FULL)) for name in stage.linears}
        names.append(digest([names[-1], own]))
    return names


def calibrated(recipe: Recipe, source: Source) -> str:
    """Name of what full precision depends on."""
    of = [recipe.weights, list(recipe.calibration), recipe.arithmetic, source.device]
    return digest([*of, source.size, source.judging])


def all_states(states: Any) -> list[State]:
    """The states of a spool, as they are."""
    return [states[n] for n in range(len(states))]


def lend(
    result: Finalized, keys: Mapping[str, str], folder: Path
) -> dict[str, Tensor] | None:
    """Put some of a result's cells into another folder too, if they are whole.

    A file is never written to once it has its place, so a link will do where the file
    system has such.

    Args:
        result: earlier finalized weights.
        keys: names of the cells, by linear.
        folder: where to.

    Returns:
        Parameters that folding changed in that result, by full name; None where
        something is not what was written: then nothing was put there.
    """
    made: list[Path] = []
    try:
        for name in keys:
            target = file_of(folder, name)
            made.append(target)
            try:
                target.hardlink_to(file_of(result.folder, name))
            except OSError:
                shutil.copyfile(file_of(result.folder, name), target)
            result.check_cell(folder, name)
        return result.changed()
    except (BankError, OSError):
        for file in made:
            file.unlink(missing_ok=True)
        return None
