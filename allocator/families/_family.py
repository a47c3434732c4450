"""A family that is declared: classes, layout, prompts, and the rest follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families._blocks import HEAD, Cut
from allocator.families._checkpoint import read_config, read_plain_config
from allocator.families._generation import read_advice
from allocator.families._modules import build, model_class, read_checkpoint
from allocator.families._packed import read_packed
from allocator.families._pipeline import Pipeline
from allocator.families._places import Rest, place_linears
from allocator.families._wording import Wording

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Model, Prediction, Stage, State
    from allocator.core.spec import Granularity, ModelSpec
    from allocator.families._blocks import Layout


@dataclass(frozen=True)
class Variant:
    """One architecture of a family.

    `model_type` is that of its config.json, `model_class` its class in transformers,
    `prompts` word each kind of question (`chat`, `within`: see `Wording`; `suffix`: see
    `Pipeline`, as are `prefix_lm` and `lay_out`), `layout` finds the parts of a module,
    and `tiny` gives the configuration of a small model with two prompts for it. `tied`
    says whether head and embeddings are one matrix where weights and config.json do
    not.
    """

    model_type: str
    model_class: str
    layout: Callable[[Any], Layout]
    prompts: Mapping[str, str]
    tiny: Callable[[], tuple[Any, State]]
    chat: bool = True
    within: Mapping[str, str] | None = None
    suffix: bool = False
    tied: bool | None = None
    prefix_lm: bool = False
    lay_out: Callable[[Any, Any], None] | None = None

    def built(self, folder: Path) -> Any:
        """A folder's module without values; see `build`."""
        return build(model_class(self.model_class), folder, tied=self.tied)

    def stages(self, module: Any) -> tuple[Stage, ...]:
        """A module's forward pass, cut along the layout."""
        return Cut(module, self.layout(module)).stages()


@dataclass(frozen=True)
class Declared:
    """A family whose variants are declared; see `allocator.core.ports.Family`."""

    name: str
    by_name: Mapping[str, Variant]

    @property
    def model_types(self) -> tuple[str, ...]:
        """Values of `model_type` in config.json that it handles."""
        kinds = (variant.model_type for variant in self.by_name.values())
        # variants that differ in one part only share a type
        return tuple(dict.fromkeys(kinds))

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the architectures it knows."""
        return tuple(self.by_name)

    def gives(self, folder: Path) -> Prediction:
        """Replies, whatever the checkpoint."""
        del folder
        return "reply"

    def spec(
        self,
        folder: Path,
        granularity: Granularity = "type",
        include: Sequence[str] = (),
    ) -> ModelSpec:
        """Groups and sizes from the configuration alone."""
        variant = self._variant(folder)
        module = variant.built(folder)
        layout = variant.layout(module)
        head = Rest(HEAD, "output head, kept at 16 bit unless included")
        rests = (head, *layout.rests)
        return place_linears(
            self.name, module, layout.places, rests, granularity, include
        )

    def load(self, folder: Path, device: str, *, mapped: bool = False) -> Model:
        """Read the checkpoint; raise ModelError if it is damaged."""
        variant = self._variant(folder)
        # a mistake in small files is said before large ones are read
        wording = _wording(variant, folder)
        module = read_checkpoint(
            model_class(variant.model_class), folder, device, mapped=mapped
        )
        return _pipeline(variant, module, folder, device, wording)

    def load_packed(
        self, folder: Path, device: str, dtype: str, *, mapped: bool = False
    ) -> Model:
        """Read a checkpoint whose weights are quantized, as transformers does."""
        variant = self._of(folder, read_config(folder)["model_type"])
        wording = _wording(variant, folder)
        module = read_packed(
            model_class(variant.model_class), folder, device, dtype, mapped=mapped
        )
        return _pipeline(variant, module, folder, device, wording)

    def outline(self, folder: Path) -> Model:
        """The model without its weights."""
        variant = self._variant(folder)
        module = variant.built(folder)
        return _pipeline(variant, module, folder, "cpu", _wording(variant, folder))

    def tiny(self, folder: Path, variant: str) -> State:
        """Save a random-weight model for tests; return two prompts for it."""
        chosen = self.by_name[variant]
        config, state = chosen.tiny()
        module = model_class(chosen.model_class)(config)
        for parameter in module.parameters():
            # a matrix of zeros hides whatever stands before it
            if parameter.dim() > 1 and not parameter.any():
                parameter.data.normal_(std=0.1)
        module.half().save_pretrained(folder)
        return state

    def _variant(self, folder: Path) -> Variant:
        return self._of(folder, read_plain_config(folder)["model_type"])

    def _of(self, folder: Path, kind: str) -> Variant:
        for variant in self.by_name.values():
            if variant.model_type == kind:
                return variant
        raise ModelError(
            f"{folder} is a {kind!r} model; family {self.name} reads "
            f"{', '.join(self.model_types)}"
        )


def _wording(variant: Variant, folder: Path) -> Wording:
    read_advice(folder)
    return Wording.read(
        folder, variant.prompts, chat=variant.chat, within=variant.within
    )


def _pipeline(
    variant: Variant, module: Any, folder: Path, device: str, wording: Wording
) -> Pipeline:
    return Pipeline(
        module,
        folder,
        device,
        wording,
        variant.stages,
        suffix=variant.suffix,
        prefix_lm=variant.prefix_lm,
        lay_out=variant.lay_out,
    )
