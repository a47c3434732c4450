"""What a search will do, counted before anything is measured.

Plain arithmetic over a request, the sizes of a model and the numbers of samples: no
model is needed, so that studies can count for published configurations too. The counts
are those of the code: ladder, controls, probes, rivals, finalists, rounds. What hangs
on scores that nobody knows yet (how many candidates are new, which contenders stop
early) is a share (`Savings`), as found on the embedded models (studies/LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from allocator.core.allocation import FULL
from allocator.core.forecast import Forecast, Part, Savings
from allocator.core.plugins import load
from allocator.core.records import LINEAR_RIVALS, RIVALS
from allocator.search.decide import SHOWN
from allocator.search.finals import BEST, FEW, LAST
from allocator.search.full import FEW as CHECKED
from allocator.search.goals import FINALISTS
from allocator.search.linears import SEEN
from allocator.search.nearby import HURDLES
from allocator.search.propose import PROBED
from allocator.search.refine import BATCH, LOOKED, ROUNDS, SAMPLES
from allocator.search.rungs import CONTROLS, DRAWN, SINGLE_CONTROLS
from allocator.space.model import ModelSpace
from allocator.study.looks import DIVERGENCE, LADDER, SCORE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.ports import Split
    from allocator.core.spec import ModelSpec
    from allocator.core.study import StudySpec

# parameters from which single linears are not probed, and fewer gradients taken
SMALL = 10**8
# of the widths of each linear the narrowest, which are probed
PROBED_WIDTHS = 3
PLAIN = Savings()


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
        solved: weights that the bank has at all widths wanted, by method.
    """

    full: bool = False
    uniform: int = 0
    rivals: int = 0
    probed: int = 0
    made: int = 0
    nearby: int = 0
    gradients: bool = False
    probed_linears: int = 0
    solved: Mapping[str, int] = field(default_factory=dict)


NOTHING = Done()


def forecast(
    asked: StudySpec,
    model: ModelSpec,
    sets: Mapping[Split, int],
    done: Done = NOTHING,
    savings: Savings = PLAIN,
) -> Forecast:
    """Count what a search will do.

    Args:
        asked: the request; its model and data are not looked at.
        model: groups and sizes.
        sets: numbers of samples by set: calibration, search, evaluation.
        done: what need not be done again.
        savings: what hangs on scores.

    Raises:
        BudgetError: a budget that nothing keeps.
    """
    space = ModelSpace(model, asked.scheme, asked.choices, asked.limit, asked.pins)
    count = _Count(asked, space, sets, done, savings)
    parts = [count.full(), count.bank(), *count.baselines(), *count.search()]
    parts += count.shipped() if count.ships else count.confirmed()
    return Forecast(tuple(parts), model.weights, savings)


@dataclass(frozen=True)
class _Count:
    """Counts the parts of one search."""

    asked: StudySpec
    space: ModelSpace
    sets: Mapping[Split, int]
    done: Done
    own: Savings

    @property
    def trials(self) -> int:
        """Proposals in all for this goal."""
        return self.asked.proposals(self.done.nearby)

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
        return self.space.spec.parameters >= SMALL

    @property
    def fitting(self) -> int:
        """Uniform allocations that fit."""
        return sum(self.space.fits(each) for each in self.space.uniform)

    def full(self) -> Part:
        """Full precision, and its logits, which all looks are held against."""
        if self.done.full:
            return Part("full precision")
        both = self.sets["search"] + self.sets["evaluation"]
        looked = 2 * self.looks + min(CHECKED, self.sets["search"])
        return Part("full precision", float(both), float(looked))

    def bank(self) -> Part:
        """The bank's cells: those that are missing."""
        left = {
            name: float(max(0, self.weights - self.done.solved.get(name, 0)))
            for name in self.asked.methods
        }
        return Part("bank", gathered=max(left.values()), solved=left)

    def measured(self, name: str, count: float) -> Part:
        """So many allocations, measured as baselines are: looks, both sets."""
        sets = self.sets["search"] + self.own.evaluated * self.sets["evaluation"]
        swapped = count * self.weights
        return Part(name, count * sets, count * self.looks, 0.0, count, swapped)

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

    @property
    def linear_kinds(self) -> int:
        """Rivals over single linears."""
        return (len(LINEAR_RIVALS) - self.is_large) if self.refines else 0

    @property
    def methods(self) -> int:
        """Methods that have a uniform allocation which fits."""
        space = self.space
        fits = [space.uniform_choice(a) for a in space.uniform if space.fits(a)]
        return len({choice.method for choice in fits})

    @property
    def compared(self) -> int:
        """Contenders that are reported beside the recommendation."""
        given = len(self.asked.candidates)
        return min(1, self.methods) + len(RIVALS) + (self.linear_kinds > 0) + given

    def shipped(self) -> list[Part]:
        """Within a budget: all that may be recommended, finalized and compared."""
        total, given = float(self.sets["search"]), len(self.asked.candidates)
        kinds = len(RIVALS) + self.linear_kinds
        contenders = float(BEST + kinds + self.methods + given)
        parts = self.single_linears()
        whole = contenders * self.own.racing
        few = contenders * FEW if total >= 2 * FEW else 0.0
        # rivals over single linears have no score under the bank's weights yet
        banked = (self.linear_kinds + given) * self.own.racing
        scored = few + (whole + banked) * total
        rounds = contenders + whole if few else contenders
        swapped = (rounds * self.own.exchanged + banked) * self.weights
        made = contenders * self.own.repeated * self.weights
        swaps = rounds + banked
        parts += [
            Part("finalists", scored, 0.0, 0.0, swaps, swapped, 0.0, made),
            *(self.refined() if self.refines else []),
        ]
        if self.asked.tunes(self.space.spec.parameters):
            count = float(LAST + self.compared)
            weights = count * self.weights
            swapped = weights * self.own.exchanged
            part = Part("tuning", count * total, swaps=count, swapped=swapped)
            parts.append(replace(part, tuned=weights))
        return [*parts, self.decided()]

    def single_linears(self) -> list[Part]:
        """Gradients of single linears, and for a small model their probes."""
        if not self.refines:
            return []
        parts, sets = [], self.sets["calibration"]
        if not self.done.gradients:
            seen = min(SEEN[self.is_large], sets)
            parts.append(Part("gradients", gradients=float(seen)))
        if not self.is_large:
            linears = len(self.space.by_linear().keys)
            widths = min(PROBED_WIDTHS, len(self.space.widths))
            count = max(0.0, float(linears * widths - self.done.probed_linears))
            swapped = (count + count / widths) * self.weights / linears
            looked = (count + 1) * min(PROBED, sets) if count else 0.0
            part = Part("probes of linears", 0.0, looked, 0.0, count, swapped)
            parts.append(part)
        return parts

    def refined(self) -> list[Part]:
        """Rounds of single changes, each with a few that are finalized."""
        samples, total = min(SAMPLES, self.sets["search"]), self.sets["search"]
        linears = len(self.space.by_linear().keys)
        single, several = float(ROUNDS * (1 + LOOKED)), float(ROUNDS * len(HURDLES))
        made = float(ROUNDS * BATCH)
        # a change is made and unmade
        swapped = 2 * single / linears + several * self.own.changed
        swapped += made * self.own.exchanged
        part = Part("refinement", made * total, (single + several) * samples)
        return [
            replace(
                part,
                swaps=single + several + made,
                swapped=swapped * self.weights,
                finalized=made * self.own.repeated * self.weights,
            )
        ]

    def decided(self) -> Part:
        """The last few on the evaluation set, beside those they are compared with."""
        count = float(LAST + self.compared)
        # full precision is known; the winner and one rival see everything
        whole = min(2.0, count)
        shown = min(SHOWN, self.trials)
        samples = (whole + (count - whole) * self.own.evaluated) + shown
        scored = samples * self.sets["evaluation"]
        swapped = (count * self.own.exchanged + shown) * self.weights
        return Part("confirmation", scored, 0.0, 0.0, count + shown, swapped)

    def confirmed(self) -> list[Part]:
        """Finalists on the evaluation set; without a budget the winner is finalized."""
        evaluation, total = self.sets["evaluation"], self.sets["search"]
        count = float(min(FINALISTS, self.trials + self.fitting))
        scored, swapped = count * evaluation, count * self.weights
        part = Part("confirmation", scored, 0.0, 0.0, count, swapped)
        if self.asked.budget is not None:
            return [part]
        parts = [part, self.measured("rivals of its size", float(len(RIVALS)))]
        if self.asked.finalize:
            made = float(1 + self.methods + len(RIVALS))
            tunes = self.asked.tunes(self.space.spec.parameters)
            scored = made * (evaluation + 2 * total * tunes)
            swaps = made * (1 + 2 * tunes)
            swapped = swaps * self.own.exchanged * self.weights
            weights = made * self.weights
            last = Part("finalization", scored, 0.0, 0.0, swaps, swapped)
            tuned = weights if tunes else 0.0
            last = replace(last, finalized=weights * self.own.repeated, tuned=tuned)
            parts.append(last)
        return parts
