"""What a search will do, counted before anything is measured.

Plain arithmetic over a request, the sizes of a model and the numbers of samples: no
model is needed, so that studies can count for published configurations too. The counts
are those of the code: ladder, controls, probes, rivals, finalists, rounds. What hangs
on scores that nobody knows yet (how many candidates are new, which contenders stop
early) is a share (`Savings`), as found on the embedded models (studies/LOG.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from allocator.bench.replied import MOST as READ
from allocator.core.forecast import Forecast, Part, Savings
from allocator.core.records import LINEAR_RIVALS, RIVALS
from allocator.search.counts import NOTHING, Count, Done
from allocator.search.deadline import LAST as RACED
from allocator.search.decide import SHOWN
from allocator.search.finals import BEST, FEW, LARGE_BEST, LAST
from allocator.search.goals import FINALISTS
from allocator.search.linears import SEEN
from allocator.search.nearby import HURDLES
from allocator.search.propose import PROBED
from allocator.search.refine import BATCH, LOOKED, ROUNDS, SAMPLES
from allocator.space.model import ModelSpace

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.ports import Split
    from allocator.core.spec import ModelSpec
    from allocator.core.study import StudySpec

# of the widths of each linear the narrowest, which are probed
PROBED_WIDTHS = 3
PLAIN = Savings()


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
    count = _Whole(asked, space, sets, done, savings)
    parts = [*count.references(), count.full(), count.bank()]
    parts += [*count.baselines(), *count.search()]
    if not (done.concluded and done.made >= count.trials):
        parts += count.shipped() if count.ships else count.confirmed()
        parts += count.divergence()
    return Forecast(tuple(parts), model.weights, savings)


class _Whole(Count):
    """Counts the whole of it: what is finalized, refined, tuned and compared too."""

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

    @property
    def last(self) -> float:
        """What is compared, and the last: as a rule one of these is among those."""
        return float(self.compared + LAST - 1)

    def shipped(self) -> list[Part]:
        """Within a budget: all that may be recommended, finalized and compared."""
        total, given = float(self.sets["search"]), len(self.asked.candidates)
        kinds = len(RIVALS) + self.linear_kinds
        of_each = BEST + self.methods
        if self.is_large:
            of_each = LARGE_BEST + min(LARGE_BEST, self.methods)
        contenders = float(of_each + kinds + given)
        parts = self.single_linears()
        whole = contenders * self.own.racing
        few = contenders * FEW if total >= 2 * FEW else 0.0
        # rivals over single linears have no score under the bank's weights yet
        banked = (self.linear_kinds + given) * self.own.racing
        scored = few + (whole + banked) * total
        rounds = contenders + whole if few else contenders
        swapped = (rounds * self.own.exchanged + banked) * self.weights
        made = contenders * self.own.repeated * self.weights
        swaps = 2 * rounds + banked
        parts += [
            Part("finalists", scored, 0.0, 0.0, swaps, swapped, 0.0, made),
            *(self.refined() if self.refines else []),
        ]
        if self.asked.tunes(self.space.spec.parameters):
            weights = self.last * self.weights
            part = Part(
                "tuning",
                # what stopped is compared on what it was scored on
                self.last * (self.own.racing * total + (1 - self.own.racing) * FEW),
                swaps=2 * self.last,
                swapped=weights * self.own.exchanged,
            )
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
                swaps=single + several + 2 * made,
                swapped=swapped * self.weights,
                finalized=made * self.own.repeated * self.weights,
            )
        ]

    def decided(self) -> Part:
        """The last few on the evaluation set, beside those they are compared with."""
        # the best uniform allocation is among these, as it would be shipped
        banked = float(max(0, self.fitting - 1))
        part = self.raced("confirmation", self.last, banked)
        # then the best proposals, and what else the front shows, as the bank has them
        shown = float(min(SHOWN, self.trials) + min(1, self.fitting))
        return replace(
            part,
            scored=part.scored + shown * self.parts[0],
            swaps=part.swaps + shown,
            swapped=part.swapped + shown * self.weights,
        )

    def divergence(self) -> list[Part]:
        """Replies of full precision, read by that and by what is recommended."""
        if not self.own.races:
            return []
        looked = 2.0 * min(READ, self.sets["evaluation"])
        part = Part("divergence", looked=looked, swaps=2.0)
        return [replace(part, swapped=self.own.exchanged * self.weights)]

    def raced(self, name: str, finalized: float, banked: float) -> Part:
        """A race on growing parts of the evaluation set, of two kinds of weights."""
        sizes = self.parts
        # full precision has seen the first part
        is_known = self.done.references is not None
        scored = 0.0 if is_known else float(sizes[-1] - sizes[0])
        count = finalized + banked
        left, before, sessions = count, 0, 0.0
        for at, size in enumerate(sizes):
            scored += left * (size - before)
            before, sessions = size, sessions + left
            most = RACED << max(0, len(sizes) - 2 - at)
            left = max(min(left, RACED), min(most, self.own.staying * left))
        # those that go on are put in place again, as a rule finalized ones
        times = finalized + sessions - count
        swapped = (times * self.own.exchanged + banked) * self.weights
        return Part(name, scored, 0.0, 0.0, 2 * times + banked, swapped)

    def confirmed(self) -> list[Part]:
        """Finalists on the evaluation set; without a budget the winner is finalized."""
        evaluation, total = self.sets["evaluation"], self.sets["search"]
        finalists = float(min(FINALISTS, self.trials))
        if self.asked.budget is not None:
            return [self.raced("confirmation", 0.0, finalists + self.fitting + 2)]
        count = finalists + self.fitting
        rivals = self.measured("rivals", float(len(RIVALS)))
        part = Part(
            "confirmation",
            (count + len(RIVALS)) * evaluation + rivals.scored,
            rivals.looked,
            swaps=count + 2 * rivals.swaps,
            swapped=count * self.weights + 2 * rivals.swapped,
        )
        if not self.asked.finalize:
            return [part]
        made = float(1 + self.methods + len(RIVALS))
        tunes = self.asked.tunes(self.space.spec.parameters)
        # which weights are better says the search set
        scored, times = made * (evaluation + 2 * total * tunes), made * (1 + 2 * tunes)
        weights = made * self.weights
        last = Part(
            "finalization",
            scored,
            swaps=2 * times,
            swapped=times * self.own.exchanged * self.weights,
            finalized=weights * self.own.repeated,
            tuned=weights * tunes,
        )
        return [part, last]
