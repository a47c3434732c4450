"""What a plug-in has to give, and the plain values that pass between rooms.

Tensors and modules are `Any` here: this room uses the standard library only.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.allocation import Scheme
    from allocator.core.recurring import Recurring
    from allocator.core.spec import Component, Granularity, ModelSpec

Split = Literal["calibration", "search", "evaluation"]
SPLITS: tuple[Split, ...] = ("calibration", "search", "evaluation")
# what a model gives for a sample: a text, or its similarity to everything else
Prediction = Literal["reply", "ranking"]
State = dict[str, Any]
# of a state: positions [batch, n] whose logits are read, counted from the end below 0
POSITIONS = "positions"
# candidates that BLIP-2's published evaluation ranks again (arXiv 2301.12597)
RERANK = 128


@dataclass(frozen=True)
class Sample:
    """One thing to answer: an image, a text, and the references to score against.

    `prompt` names the kind of prompt ("vqa", "caption"), which a family words; "plain"
    asks the text as it stands, and so does "caption" where there is one.
    `upright` has the image read as people see it, turned as its EXIF orientation says
    and on white where it is transparent; the official loaders of the tasks here do
    not, so those take images as they are stored.
    `choices` are the texts to choose from, lettered A, B, C, ..., if there are any.
    """

    id: str
    image: Path
    prompt: str
    text: str
    references: tuple[str, ...]
    upright: bool = True
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranked:
    """How well one image and its texts fit everything in an evaluation.

    `texts` holds the similarity of the image to every text of all samples, in order;
    `images` holds one row for each of the sample's own texts: its similarity to the
    image of every sample. Higher is better.
    """

    texts: Sequence[float]
    images: Sequence[Sequence[float]]


@dataclass(frozen=True)
class Score:
    """Mean over samples, in the task's unit, and the value of each sample.

    `details` are further published figures of the same predictions, by name.
    """

    mean: float
    values: tuple[float, ...]
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Which samples of a task to take.

    `fraction` is the share of the published evaluation set (None: as published),
    `subset` the name of that set where a task has several (None: the first in the data
    folder).
    """

    seed: int = 0
    fraction: float | None = None
    subset: str | None = None


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
    def needs(self) -> Prediction:
        """What it scores: a model has to give that."""

    @property
    def max_new_tokens(self) -> int:
        """Longest reply that can score."""

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of its published evaluation sets, the usual one first."""

    @property
    def examples(self) -> tuple[Sample, ...]:
        """Samples whose first references together get the best score there is."""

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """Read one split; raise DataError naming a file that is missing."""

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score predictions, one per sample, in order: replies, or `Ranked`."""


@runtime_checkable
class CorpusTask(Protocol):
    """A task whose scores hang on the references of all samples scored together."""

    def within(self, whole: Sequence[Sample]) -> Task:
        """The same for parts of a set: each sample scores what it does in the whole."""


@dataclass(frozen=True)
class Siblings:
    """Linears that read one input, and the module their AWQ scale folds into.

    `fold` is the full name of a normalization or linear whose output they alone read
    (None: no such module, and AWQ may only clip). `mask` is the key of the mask
    of their input, where it is not that of their stage. `added` is what a normalization
    adds to its weight before it multiplies by it: 1 for Gemma's. `pool` is the
    parameter that an expert's weight is a slice of (`allocator.core.weights`): sets of
    one pool are watched together, and an expert that saw few tokens borrows from all.
    """

    names: tuple[str, ...]
    fold: str | None = None
    mask: str | None = None
    added: float = 0.0
    pool: str | None = None


@dataclass(frozen=True)
class Stage:
    """One step of the forward pass: `run` takes the state and returns the next.

    `uses` are full names of the modules and parameters it reads: what has to be in
    memory while it runs. `siblings` are the linears it quantizes. `mask` is the key of
    the state that says which positions of its inputs are real (None: all are).
    """

    name: str
    component: Component
    run: Callable[[State], State]
    uses: tuple[str, ...]
    siblings: tuple[Siblings, ...] = ()
    mask: str | None = None

    @property
    def linears(self) -> tuple[str, ...]:
        """Full names of the linears it quantizes."""
        return tuple(name for group in self.siblings for name in group.names)


@dataclass(frozen=True)
class Decoding:
    """How predictions are made.

    Replies greedily, or with a beam of some width (below 0, `length_penalty` prefers
    short ones); rankings by similarity, the best `rerank` of each again by the matching
    head.
    """

    max_new_tokens: int
    beams: int = 1
    _: KW_ONLY
    length_penalty: float = 1.0
    rerank: int = RERANK


class Model(Protocol):
    """A loaded vision-language model, cut into stages.

    A state holds `pixel_values`, `input_ids`, `attention_mask` at first; running the
    stages of a component adds that component's outputs. The head of a language model
    gives logits of all tokens, or of those that the state names under `POSITIONS`.
    Where several samples of a batch show one picture, its pixels and what the prefix
    makes of them are there once, and `picture` [batch] holds the row of each sample's
    picture; without that key there is a picture for each sample, in order.
    """

    @property
    def module(self) -> Any:
        """The transformers module."""

    @property
    def processor(self) -> Any:
        """The transformers processor: makes inputs of pictures and texts."""

    def stages(self) -> tuple[Stage, ...]:
        """All stages in execution order; their composition is `forward`."""

    @property
    def prefix(self) -> tuple[Component, ...]:
        """Components whose outcome depends on the image alone: it can be kept."""

    def inputs(self, samples: Sequence[Sample], *, answered: bool = False) -> State:
        """Pixels and prompts, padded on the left; replies behind them if asked.

        Then no picture is shared: calibration counts each pair.
        """

    def apart(self) -> Model:
        """The same with a processor of its own, to make inputs in another thread."""

    @property
    def pixels(self) -> Recurring:
        """What the processor has made of pictures, as far as that is kept."""

    def lengths(self, samples: Sequence[Sample]) -> Sequence[int]:
        """Tokens of each sample's prompt, about; pictures are not read for it."""

    def prompt(self, sample: Sample) -> str:
        """A sample's prompt as the model gets it, special tokens shown."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of prompt it is asked in: values of `Sample.prompt`."""

    def features(self, state: State) -> Any:
        """What the components behind the prefix read of the images."""

    def predict(
        self,
        states: Iterable[State],
        samples: Sequence[Sample],
        decoding: Decoding,
        tick: Callable[[int], object],
    ) -> list[Any]:
        """One prediction per sample, from batches that have run through the prefix.

        `tick` is told the samples done.
        """


class Family(Protocol):
    """A kind of model that transformers can build."""

    @property
    def model_types(self) -> tuple[str, ...]:
        """Values of `model_type` in config.json that it handles."""

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the architectures it knows; `tiny` makes one of each."""

    def gives(self, folder: Path) -> Prediction:
        """What a checkpoint predicts."""

    def spec(
        self,
        folder: Path,
        granularity: Granularity = "type",
        include: Sequence[str] = (),
    ) -> ModelSpec:
        """Groups and sizes from the configuration alone.

        `include` names what else is in groups: "head", "embeddings".
        """

    def load(self, folder: Path, device: str, *, mapped: bool = False) -> Model:
        """Read the checkpoint; raise ModelError if it is damaged.

        Mapped: weights stay in the checkpoint's files, as they are stored, until
        somebody loads those that a stage uses. It then runs on `device`.
        """

    def load_packed(
        self, folder: Path, device: str, dtype: str, *, mapped: bool = False
    ) -> Model:
        """Read a checkpoint with quantized weights, as transformers reads it.

        `dtype` is that of everything that has no codes, in torch's words. Mapped:
        weights stay packed, in the checkpoint's files; it cannot run.

        Raises:
            ModelError: something is missing, unknown or of another shape.
        """

    def outline(self, folder: Path) -> Model:
        """The model without its weights: it makes inputs, and runs nothing."""

    def tiny(self, folder: Path, variant: str) -> State:
        """Save a random-weight model of two blocks a component for tests.

        Returns two prompts for it, the second padded, with an image each.
        """


class Method(Protocol):
    """A way to choose codes for the weights of linears that read one input.

    One that looks at nothing but a matrix, and is quick, may say so by `stored = False`
    (see `is_stored`).
    """

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


def is_stored(method: Method) -> bool:
    """Whether a bank keeps a method's cells; if not, it makes them when asked for.

    Those are made of a matrix alone: `quantize` is given no inputs, and one matrix.
    """
    return bool(getattr(method, "stored", True))
