"""What a search will do and take, part by part: counts first, then seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.unit_costs import Lengths, UnitCosts


# what comes before the first part and behind the last
OTHER = "other"


@dataclass(frozen=True)
class Savings:
    """Shares of what could be done that is done, where the code alone does not say.

    Attributes:
        new: candidates of a race that were not looked at before.
        changed: weights in which a candidate differs from the one looked at before it.
        racing: contenders that are scored on the whole search set.
        races: whether the task lets parts of its evaluation set be scored.
        staying: contenders that stay in the race from one part of that set to the next.
        encoded_scored: samples scored whose picture is encoded anew.
        encoded_looked: samples looked at whose picture is encoded anew.
        looked: of the language model's work, what a look does behind kept states.
        branches: whether replies share the tokens of a picture with several questions.
        exchanged: how often all weights are exchanged when finalized ones are scored:
            put in place, and put back.
        repeated: of a finalization, what is not taken over from an earlier one.
    """

    new: float = 0.95
    changed: float = 0.25
    racing: float = 0.65
    races: bool = True
    staying: float = 0.5
    encoded_scored: float = 0.6
    encoded_looked: float = 0.15
    looked: float = 0.75
    branches: bool = False
    exchanged: float = 2.0
    repeated: float = 1.0


@dataclass(frozen=True)
class Part:
    """One part of a search: what is done in it.

    Attributes:
        name: the phase, as seconds are told by.
        scored: samples that the model replies to.
        looked: samples whose next token is looked at.
        gradients: samples that run forward and backward.
        swaps: allocations put in place.
        swapped: weights exchanged for that.
        gathered: weights whose inputs are gathered from the calibration set.
        finalized: weights quantized in sequence.
        tuned: weights whose rounding is learned.
        proposals: proposals made.
        solved: weights quantized at all widths, by method.
    """

    name: str
    scored: float = 0.0
    looked: float = 0.0
    gradients: float = 0.0
    swaps: float = 0.0
    swapped: float = 0.0
    gathered: float = 0.0
    finalized: float = 0.0
    tuned: float = 0.0
    proposals: float = 0.0
    solved: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data, whole numbers."""
        plain = {k: round(v) for k, v in vars(self).items() if k in COUNTED}
        solved = {method: round(weights) for method, weights in self.solved.items()}
        return {"name": self.name, **plain, "solved": solved}


# what is counted of a part, beside what each method solves
COUNTED = tuple(f.name for f in fields(Part) if f.name not in ("name", "solved"))


@dataclass(frozen=True)
class Forecast:
    """What a search will do, part by part, in order; for a model of so many weights."""

    parts: tuple[Part, ...]
    weights: int
    savings: Savings = Savings()

    @property
    def total(self) -> Part:
        """All parts together."""
        sums = {k: sum(getattr(p, k) for p in self.parts) for k in COUNTED}
        solved: dict[str, float] = {}
        for part in self.parts:
            for method, weights in part.solved.items():
                solved[method] = solved.get(method, 0.0) + weights
        return Part("total", solved=solved, **sums)

    def tokens(self, lengths: Lengths) -> dict[str, float]:
        """Tokens through each component, by its name, in scores and looks."""
        done, own = self.total, self.savings
        pictures = own.encoded_scored * done.scored + own.encoded_looked * done.looked
        replies = done.scored * (self._prompt(lengths) + lengths.reply)
        return {
            "vision": pictures * lengths.vision,
            "connector": pictures * lengths.connector,
            "language": replies + done.looked * own.looked * lengths.prompt,
        }

    def _prompt(self, lengths: Lengths) -> float:
        return lengths.branched if self.savings.branches else lengths.prompt

    def seconds(self, units: UnitCosts, lengths: Lengths) -> dict[str, float]:
        """What each part takes, by its name; what begins it all is `OTHER`."""
        own = self.savings
        scored = (
            own.encoded_scored * units.picture.seconds
            + self._prompt(lengths) * units.prompt.seconds
            + lengths.reply * units.reply.seconds
        )
        looked = (
            own.encoded_looked * units.picture.seconds
            + own.looked * lengths.prompt * units.prompt.seconds
            + units.look.seconds
        )
        found = {OTHER: units.start.seconds}
        for part in self.parts:
            solved = part.solved.items()
            found[part.name] = found.get(part.name, 0.0) + (
                part.scored * scored
                + part.looked * looked
                + part.gradients * units.gradient.seconds
                + part.swapped * units.swap.seconds
                + part.gathered * units.gather.seconds
                + sum(weights * units.solve[name].seconds for name, weights in solved)
                + part.finalized * units.finalize.seconds
                + part.tuned * units.tune.seconds
                + part.proposals * units.proposal.seconds
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "parts": [part.to_json() for part in self.parts],
            "total": self.total.to_json(),
            "savings": asdict(self.savings),
        }
