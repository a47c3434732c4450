"""Regrets of searches as tables, with paired intervals against the default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.interval import bootstrap

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT = "surrogate"
AFTER = (5, 10, 20, 40)  # evaluations
ZERO = 1e-12


@dataclass(frozen=True)
class Run:
    """One search: regret after each evaluation, and seconds of it.

    A search that has measured all there is stops early; its last regret stays.
    """

    case: str
    budget: float
    strategy: str
    seed: int
    regrets: tuple[float, ...]
    seconds: float
    sampler_seconds: float

    @staticmethod
    def of(row: Sequence[Any]) -> Run:
        """Read what `to_row` wrote."""
        *start, seconds, sampler, n, steps = row
        ends = [at for at, _ in steps[1:]] + [n]
        found: list[float] = []
        for (at, regret), end in zip(steps, ends, strict=True):
            found += [regret] * (end - at)
        return Run(*start, tuple(found), seconds, sampler)

    def to_row(self) -> list[Any]:
        """Plain data, short: many runs are kept as text.

        Case, budget, strategy, seed, both seconds to the millisecond, the number of
        regrets, and those that differ from the one before, to six decimals.
        """
        rounded = [round(regret, 6) for regret in self.regrets]
        pairs = enumerate(zip(rounded, [None, *rounded], strict=False))
        steps = [(at, own) for at, (own, last) in pairs if own != last]
        times = round(self.seconds, 3), round(self.sampler_seconds, 3)
        return [*self.key, *times, len(rounded), steps]

    @property
    def key(self) -> tuple[str, float, str, int]:
        """What makes a run another one."""
        return self.case, self.budget, self.strategy, self.seed

    def after(self, evaluations: int) -> float:
        """Regret after so many evaluations, or all there were."""
        return self.regrets[min(evaluations, len(self.regrets)) - 1]


@dataclass(frozen=True)
class Runs:
    """The runs of one case."""

    runs: tuple[Run, ...]

    @property
    def strategies(self) -> list[str]:
        """The default first, then by name."""
        found = {run.strategy for run in self.runs}
        return sorted(found, key=lambda name: (name != DEFAULT, name))

    @property
    def budgets(self) -> list[float]:
        """Budgets, rising."""
        return sorted({run.budget for run in self.runs})

    def trivial(self, after: int) -> list[float]:
        """Budgets at which every run of every strategy is at 0."""
        return [
            budget
            for budget in self.budgets
            if all(r.after(after) <= ZERO for r in self.runs if r.budget == budget)
        ]

    def values(
        self, strategy: str, after: int, budgets: Sequence[float]
    ) -> dict[tuple[float, int], float]:
        """Regret by budget and seed."""
        return {
            (run.budget, run.seed): run.after(after)
            for run in self.runs
            if run.strategy == strategy and run.budget in budgets
        }

    def mean(self, strategy: str, after: int, budgets: Sequence[float]) -> float:
        """Mean regret over budgets and seeds; NaN where there are no runs."""
        found = self.values(strategy, after, budgets)
        return sum(found.values()) / len(found) if found else math.nan

    def against(self, strategy: str, after: int, budgets: Sequence[float]) -> str:
        """Regret above the default's, paired by budget and seed, with its interval."""
        own = self.values(strategy, after, budgets)
        base = self.values(DEFAULT, after, budgets)
        pairs = sorted(own.keys() & base.keys())
        if not pairs:
            return ""
        found = bootstrap([own[key] - base[key] for key in pairs])
        return f"{found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"


def markdown(runs: Sequence[Run], after: Sequence[int] = AFTER) -> str:
    """All tables: for each case mean regrets, then differences to the default."""
    parts = []
    for case in dict.fromkeys(run.case for run in runs):
        own = Runs(tuple(run for run in runs if run.case == case))
        parts.append(f"## {case}\n\n{_means(own, after)}\n{_differences(own, after)}")
    return "\n".join([*parts, _times(runs)])


def _means(runs: Runs, after: Sequence[int]) -> str:
    """Mean regret of every strategy at every budget."""
    head = [f"{budget:g}" for budget in runs.budgets]
    lines = [_row(["strategy", "after", *head]), _row(["---"] * (2 + len(head)))]
    for name in runs.strategies:
        for count in after:
            means = [f"{runs.mean(name, count, [b]):.4f}" for b in runs.budgets]
            lines.append(_row([name, str(count), *means]))
    return "Mean regret by budget (bpw).\n\n" + "\n".join(lines) + "\n"


def _differences(runs: Runs, after: Sequence[int]) -> str:
    """Mean regret above the default's over all budgets that tell anything."""
    if DEFAULT not in runs.strategies:
        return ""
    parts = []
    for count in after:
        trivial = runs.trivial(count)
        budgets = [budget for budget in runs.budgets if budget not in trivial]
        left_out = ", ".join(f"{budget:g}" for budget in trivial)
        note = f" Left out, since nobody has any regret: {left_out}." if trivial else ""
        if not budgets:
            parts.append(f"After {count} nobody has any regret at any budget.\n")
            continue
        lines = [_row(["strategy", "regret", f"above {DEFAULT} [95 %]"])]
        lines.append(_row(["---"] * 3))
        for name in runs.strategies:
            mean = f"{runs.mean(name, count, budgets):.4f}"
            versus = "" if name == DEFAULT else runs.against(name, count, budgets)
            lines.append(_row([name, mean, versus]))
        parts.append(f"After {count}.{note}\n\n" + "\n".join(lines) + "\n")
    return "\n" + "\n".join(parts)


def _times(runs: Sequence[Run]) -> str:
    """Milliseconds that a strategy takes for a proposal."""
    lines = [_row(["strategy", "ms a proposal", "share of the run"])]
    lines.append(_row(["---"] * 3))
    for name in Runs(tuple(runs)).strategies:
        own = [run for run in runs if run.strategy == name]
        sampler = sum(run.sampler_seconds for run in own)
        each = 1000 * sampler / max(1, sum(len(run.regrets) for run in own))
        share = 100 * sampler / sum(run.seconds for run in own)
        lines.append(_row([name, f"{each:.1f}", f"{share:.0f} %"]))
    return "## Time\n\n" + "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
