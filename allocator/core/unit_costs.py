"""What one of each thing takes on a device, and what a sample and a model measure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Unit:
    """Seconds that one of something takes; `measured` on the device, or assumed."""

    seconds: float
    measured: bool = False

    @property
    def source(self) -> str:
        """Where it is from, in a word."""
        return "measured" if self.measured else "assumed"


@dataclass(frozen=True)
class Lengths:
    """Tokens of a mean sample of a task, and what shares them.

    Attributes:
        vision: tokens that the vision encoder reads of a picture.
        connector: tokens that the connector reads of it.
        prompt: tokens that the language model reads before it replies.
        picture: those of them that stand in front and are the same for all questions
            about a picture.
        reply: tokens of a reply, its end counted.
        questions: samples that ask about the same picture, in a batch.
    """

    vision: float
    connector: float
    prompt: float
    picture: float
    reply: float
    questions: float = 1.0

    @property
    def branched(self) -> float:
        """Tokens of a prompt where a picture's run once for all its questions."""
        return self.picture / max(self.questions, 1.0) + self.prompt - self.picture


@dataclass(frozen=True)
class UnitCosts:
    """Seconds that things take on one device, for one model and task.

    Attributes:
        picture: of one, read, processed and through everything before the language
            model.
        prompt: of a token of a prompt, at the batch that replies run in.
        reply: of a token of a reply, at the same batch.
        look: of what a look takes beside its picture and its prompt.
        gradient: of a sample that runs forward and backward, each linear's errors
            under every choice counted in.
        swap: of a weight that is exchanged.
        gather: of a weight whose inputs are gathered from all calibration samples.
        solve: of a weight quantized at all widths, by method.
        finalize: of a weight of an allocation that is quantized in sequence.
        tune: of a weight of an allocation whose rounding is learned.
        proposal: of a proposal beside all it looks at: what models learn and rank.
        start: of what comes before everything and behind it, such as loading the model.
    """

    picture: Unit
    prompt: Unit
    reply: Unit
    look: Unit
    gradient: Unit
    swap: Unit
    gather: Unit
    solve: Mapping[str, Unit]
    finalize: Unit
    tune: Unit
    proposal: Unit = field(default=Unit(0.0))
    start: Unit = field(default=Unit(0.0))

    def named(self) -> dict[str, Unit]:
        """All of them by name, those of methods as "solve gptq"."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        solve = plain.pop("solve")
        return {**plain, **{f"solve {name}": unit for name, unit in solve.items()}}

    def to_json(self) -> dict[str, Any]:
        """Plain data: seconds and source of each."""
        return {
            name: {"seconds": unit.seconds, "source": unit.source}
            for name, unit in self.named().items()
        }


@dataclass(frozen=True)
class Bytes:
    """Bytes at a time: of a bank's files, and at most in memory."""

    disk: int
    host: int
    device: int

    def to_json(self) -> dict[str, int]:
        """Plain data."""
        return asdict(self)
