"""What a plug-in has to give, and the plain values that pass between rooms.

Tensors and modules are `Any` here: this room uses the standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.allocation import Scheme
    from allocator.core.spec import Component, Granularity, ModelSpec

Split = Literal["calibration", "search", "evaluation"]
SPLITS: tuple[Split, ...] = ("calibration", "search", "evaluation")
State = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One thing to answer: an image, a text, and the references to score against.

    `prompt` names the kind of prompt ("vqa", "caption"), which a family words.
    """

    id: str
    image: Path
    prompt: str
    text: str
    references: tuple[str, ...]


@dataclass(frozen=True)
class Score:
    """Mean over samples, in the task's unit, and the value of each sample."""

    mean: float
    values: tuple[float, ...]


class Task(Protocol):
    """A published benchmark read from its official files."""

    @property
    def name(self) -> str:
        """Its key."""

    @property
    def metric(self) -> str:
        """Name and unit of the score."""

    @property
    def version(self) -> int:
        """Scores of different versions are never compared."""

    @property
    def max_new_tokens(self) -> int:
        """Longest reply that can score."""

    @property
    def example(self) -> Sample:
        """A sample whose first reference gets full marks."""

    def samples(self, data: Path, split: Split, seed: int) -> tuple[Sample, ...]:
        """Read one split; raise DataError naming a file that is missing."""

    def score(self, replies: Sequence[str], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample, in order."""


@dataclass(frozen=True)
class Siblings:
    """Linears that read one input, and the module their AWQ scale folds into.

    `fold` is the full name of a normalization or linear whose output they alone read
    (None: no such module, and AWQ may only clip).
    """

    names: tuple[str, ...]
    fold: str | None = None


@dataclass(frozen=True)
class Stage:
    """One step of the forward pass: `run` takes the state and returns the next.

    `uses` are full names of the modules and parameters it reads: what has to be in
    memory while it runs. `siblings` are the linears it quantizes.
    """

    name: str
    component: Component
    run: Callable[[State], State]
    uses: tuple[str, ...]
    siblings: tuple[Siblings, ...] = ()

    @property
    def linears(self) -> tuple[str, ...]:
        """Full names of the linears it quantizes."""
        return tuple(name for group in self.siblings for name in group.names)


class Model(Protocol):
    """A loaded vision-language model, cut into stages.

    A state holds `pixel_values`, `input_ids`, `attention_mask` at first; running the
    stages of a component adds that component's outputs.
    """

    @property
    def module(self) -> Any:
        """The transformers module."""

    def stages(self) -> tuple[Stage, ...]:
        """All stages in execution order; their composition is `forward`."""

    def inputs(self, samples: Sequence[Sample], *, answered: bool = False) -> State:
        """Pixels and prompts, padded on the left; replies behind them if asked."""

    def features(self, state: State) -> Any:
        """What the language model reads of the images, after the connector."""

    def generate(self, state: State, max_new_tokens: int) -> list[str]:
        """Greedy replies, from a state that has run up to the language model."""


class Family(Protocol):
    """A kind of model that transformers can build."""

    @property
    def model_types(self) -> tuple[str, ...]:
        """Values of `model_type` in config.json that it handles."""

    def spec(self, folder: Path, granularity: Granularity = "type") -> ModelSpec:
        """Groups and sizes from the configuration alone."""

    def load(self, folder: Path, device: str, *, mapped: bool = False) -> Model:
        """Read the checkpoint; raise ModelError if it is damaged.

        Mapped: weights stay in the checkpoint's files, as they are stored, until
        somebody loads those that a stage uses. It then runs on `device`.
        """

    def tiny(self, folder: Path) -> None:
        """Save a random-weight model of two blocks a component for tests."""


class Method(Protocol):
    """A way to choose codes for the weights of linears that read one input."""

    @property
    def version(self) -> int:
        """Counts up whenever its cells change."""

    def quantize(
        self,
        weights: Sequence[Any],
        inputs: Any,
        scheme: Scheme,
        widths: Sequence[int],
        *,
        foldable: bool = False,
    ) -> Mapping[int, Sequence[Any]]:
        """For each width one `quant.grid.Cell` per weight matrix."""


class Exporter(Protocol):
    """Writes a plan (`allocator.core.plan`) in a format that something else reads."""

    @property
    def description(self) -> str:
        """What it writes, in a few words."""

    def write(self, plan: Mapping[str, Any], out: Path) -> Path:
        """Write under `out` and return the file or folder written."""
