"""Single linears on a bench that scores them by a formula, for the end of a search."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from allocator.bench.sensitivity import Sensitivity
from allocator.core.ports import Score
from allocator.core.spec import Linear, ModelSpec, build_groups
from tests.searches import FakeBench, asked_for, search_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pytest

    from allocator.core.allocation import Allocation, Choice
    from allocator.core.ports import Sample
    from allocator.search.running import Search

# of six blocks of vision, and two linears in each group, these bear few bits badly
HEAVY = {"vision.0.ff": 8.0, "vision.3.attn": 6.0, "language.0.attn": 4.0}


def paired_linears() -> ModelSpec:
    """Groups of two linears or more, but for the connector."""
    linears = [
        Linear(f"{part}.{block}.{kind}", part, block, kind, out, 64)
        for part in ("vision", "language")
        for block in range(6)
        for kind, out in (("attn", 64), ("ff", 128))
    ]
    linears.append(Linear("projector", "connector", None, "all", 96, 64))
    return ModelSpec("toy", 180_000, build_groups(linears), ())


def lost(name: str, choice: Choice) -> float:
    """What a linear loses."""
    method = 1.0 if choice.method == "awq" else 1.3
    full = choice.bits == 16
    return 0.0 if full else HEAVY.get(name, 0.5) * 2.0 ** (2 - choice.bits) * method


@dataclass
class LinearBench(FakeBench):
    """Scores by the losses of linears, however they are grouped.

    `tells` may change a score by the allocation and the number of samples.
    """

    spec: Any = None
    tells: Callable[[Allocation, int], float] = field(default=lambda *_: 0.0)

    def over(self, spec: ModelSpec) -> LinearBench:
        return replace(self, spec=spec, runs=self.runs)

    def _lost(self, allocation: Allocation) -> float:
        chosen = allocation.of_linears(self.spec)
        return sum(lost(name, choice) for name, choice in chosen.items())

    def score(self, allocation: Allocation, some: Sequence[Sample]) -> Score:
        self.runs.append(("score", allocation.digest, len(some)))
        mean = 90.0 - self._lost(allocation) + self.bonus
        mean += self.tells(allocation, len(some))
        return Score(mean, (mean,) * len(some))

    def divergence(
        self, allocation: Allocation, some: Sequence[Sample], ahead: Any = None
    ) -> float:
        del ahead
        self.runs.append(("divergence", allocation.digest, len(some)))
        return self._lost(allocation) / 100 - self.bonus / 1000


def fake_tables(patch: pytest.MonkeyPatch) -> None:
    """Tables of single linears without a model."""

    def sensitivity(bench: Any, some: Any, choices: Any, *_: Any) -> Sensitivity:
        del some
        table = {
            (group.key, choice): sum(lost(x.name, choice) for x in group.linears)
            for group in bench.spec.groups
            for choice in choices
        }
        return Sensitivity(table, table)

    def few(bench: Any, some: Any, choices: Any, errors: Any, *_: Any) -> Any:
        del bench, some, choices
        return errors.fisher

    patch.setattr("allocator.bench.sensitivity.sensitivity", sensitivity)
    patch.setattr("allocator.bench.probes.few_damages", few)
    patch.setattr("allocator.search.run.importance_of", lambda *_: {})


def ending(
    spec: ModelSpec,
    folder: Path,
    *,
    searched: int = 400,
    tells: Callable[[Allocation, int], float] = lambda *_: 0.0,
    **options: Any,
) -> Search:
    """A search that has not begun, on such a bench."""
    bench = LinearBench(spec=spec, tells=tells)
    bench.model = SimpleNamespace(prefix=("vision", "connector"))
    url = f"{folder}/studies.log"
    return search_of(spec, url, asked_for(**options), bench, searched)
