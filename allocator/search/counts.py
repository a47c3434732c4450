"""Counts of what a search does until something is chosen: ladder, probes, proposals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from allocator.core.allocation import FULL
from allocator.core.forecast import Part
from allocator.core.plugins import load
from allocator.core.records import RIVALS
from allocator.search.full import FEW as CHECKED
from allocator.search.propose import PROBED, trials_of
from allocator.search.rungs import CONTROLS, DRAWN, SINGLE_CONTROLS
from allocator.study.looks import DIVERGENCE, LADDER, SCORE
from evals.subsets import FIRST, LEAST, SHARE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.forecast import Savings
    from allocator.core.ports import Split
    from allocator.core.study import StudySpec
    from allocator.space.model import ModelSpace


@dataclass(frozen=True)
class Done:
    """What a study and a bank have already.

    Attributes:
        full: whether full precision is measured on both sets.
        uniform: fitting uniform allocations that are.
        rivals: of the two, how many are.
        probed: probes of groups that were taken.
        made: proposals for this goal.
        nearby: proposals for other budgets that are near.
        gradients: whether single linears have their tables.
        probed_linears: probes of single linears that were taken.
        concluded: whether this goal has its recommendation.
        solved: weights that the bank has at all widths wanted, by method.
        references: samples that full precision has yet to reply to, where its replies
            are the references; None: they are not.
    """

    full: bool = False
    uniform: int = 0
    rivals: int = 0
    probed: int = 0
    made: int = 0
    nearby: int = 0
    gradients: bool = False
    probed_linears: int = 0
    concluded: bool = False
    solved: Mapping[str, int] = field(default_factory=dict)
    references: int | None = None


NOTHING = Done()


@dataclass(frozen=True)
class Count:
    """Counts parts of one search: those up to its last proposal."""

    asked: StudySpec
    space: ModelSpace
    sets: Mapping[Split, int]
    done: Done
    own: Savings

    @property
    def trials(self) -> int:
        """Proposals in all for this goal."""
        return trials_of(self.asked, self.done.nearby)

    @property
    def ships(self) -> bool:
        """Whether what would be shipped is compared before anything is chosen."""
        return self.asked.budget is not None and self.asked.finalize

    @property
    def refines(self) -> bool:
        """Whether single linears are looked at."""
        return self.ships and self.asked.refines

    @property
    def ladder(self) -> list[tuple[str, int, int]]:
        """The rungs that are cheaper than the search set."""
        if not self.asked.rungs:
            return []
        return [rung for rung in LADDER if 2 * rung[1] <= self.sets["search"]]

    @property
    def looks(self) -> int:
        """Samples that are looked at of whatever is measured in full anyway."""
        return sum(size for kind, size, _ in self.ladder if kind == DIVERGENCE)

    @property
    def low(self) -> int:
        """Choices below 16 bits."""
        return sum(choice.bits < FULL for choice in self.space.choices)

    @property
    def weights(self) -> int:
        """Weights in groups."""
        return self.space.spec.weights

    @property
    def is_large(self) -> bool:
        """Whether single linears are not probed."""
        return self.space.spec.is_large

    @property
    def fitting(self) -> int:
        """Uniform allocations that fit."""
        return sum(self.space.fits(each) for each in self.space.uniform)

    @property
    def parts(self) -> list[int]:
        """Sizes of the growing parts of the evaluation set, the whole one last."""
        total = self.sets["evaluation"]
        if not (self.asked.race and self.asked.budget is not None and self.own.races):
            return [total]
        least = max(LEAST, min(FIRST, total / SHARE))
        sizes = [total]
        while sizes[0] / 2 >= least:
            sizes.insert(0, round(sizes[0] / 2))
        return sizes

    def references(self) -> list[Part]:
        """Replies of full precision that others are to agree with."""
        asked = self.done.references
        return [Part("references", float(asked))] if asked else []

    def full(self) -> Part:
        """Full precision, and its logits, which all looks are held against."""
        if self.done.full:
            return Part("full precision")
        known = self.done.references is not None
        scored = 0.0 if known else float(self.sets["search"] + self.parts[0])
        looked = 2 * self.looks + min(CHECKED, self.sets["search"])
        return Part("full precision", scored, float(looked))

    def bank(self) -> Part:
        """The bank's cells: those that are missing."""
        left = {
            name: float(max(0, self.weights - self.done.solved.get(name, 0)))
            for name in self.asked.methods
        }
        return Part("bank", gathered=max(left.values()), solved=left)

    def measured(self, name: str, count: float) -> Part:
        """So many allocations, measured as baselines are: looks, the search set."""
        scored, looked = count * self.sets["search"], count * self.looks
        return Part(name, scored, looked, 0.0, count, count * self.weights)

    def baselines(self) -> list[Part]:
        """Uniform allocations; the prior, and the rivals where a budget has some."""
        uniform = self.measured("baselines", max(0, self.fitting - self.done.uniform))
        rivals = len(RIVALS) if self.asked.budget is not None else 0
        two = self.measured("rivals", max(0, rivals - self.done.rivals))
        return [uniform, self.probes(), two]

    def probes(self) -> Part:
        """The prior: each group alone at each choice, beside full precision."""
        samples, groups = min(PROBED, self.sets["calibration"]), len(self.space.keys)
        count = float(max(0, groups * self.low - self.done.probed))
        if not count:
            return Part("probes")
        # what a group has is exchanged for the next choice, and put back in the end
        swapped = (count + count / self.low) * self.weights / groups
        return Part("probes", 0.0, (count + 1) * samples, 0.0, count, swapped)

    def search(self) -> list[Part]:
        """Proposals, the candidates that they outlived, and their controls."""
        trials = float(max(0, self.trials - self.done.made))
        if not trials:
            return []
        strategy = load("allocator.strategies", self.asked.strategy, "strategy")
        looked, scored, swaps = 0.0, trials * self.sets["search"], trials
        if self.ladder and strategy.offspring > 1:
            controls = self.controls()
            races = self.races(trials - controls, float(strategy.offspring))
            last, size, _ = self.ladder[-1]
            drawn = controls * DRAWN
            looked = races.looked + drawn * self.looks
            scored += races.scored + drawn * size * (last == SCORE)
            swaps += races.swaps + drawn
        swapped = swaps * self.own.changed * self.weights
        part = Part("search", scored, looked, 0.0, swaps, swapped, proposals=trials)
        return [part]

    def controls(self) -> int:
        """Proposals that no look chooses."""
        at = CONTROLS if self.ladder[-1][0] == SCORE else SINGLE_CONTROLS
        return sum(self.done.made <= place < self.trials for place in at)

    def races(self, count: float, offspring: float) -> Part:
        """So many races of candidates from rung to rung."""
        looked = scored = swaps = 0.0
        left = offspring
        for kind, size, outlive in self.ladder:
            taken = count * left * (self.own.new if left == offspring else 1.0)
            looked += taken * size * (kind == DIVERGENCE)
            scored += taken * size * (kind == SCORE)
            swaps, left = swaps + taken, min(left, float(outlive))
        return Part("races", scored, looked, swaps=swaps)
