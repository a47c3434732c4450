"""Any image-text-to-text architecture of transformers, placed by its structure.

Where a family names an architecture, that comes first. Here nothing is declared: a
small random model of the same configuration is run and watched (`_traced`), what it
shows is carried over to the checkpoint's module (`_fitting`), and every stage is the
model's own pass up to a place (`_passes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, in_one_sentence
from allocator.families._checkpoint import quiet, read_config, read_plain_config
from allocator.families._found import Found, found_of
from allocator.families._generation import read_advice
from allocator.families._modules import build, model_class, read_checkpoint
from allocator.families._packed import read_packed
from allocator.families._places import place_linears
from allocator.families._whole import Whole, stages_of
from allocator.families._wording import Wording
from allocator.families._words import SHORT_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Family, Model, Prediction, State
    from allocator.core.spec import Granularity, ModelSpec
    from allocator.families._structure import Structure

NAME = "auto"


@dataclass(frozen=True)
class Auto:
    """Every architecture of a mapping; see `allocator.core.ports.Family`."""

    name: str = NAME
    # of tests: architectures that no other family names, the first ones tried most
    variants: tuple[str, ...] = (
        "aya_vision",
        "aria",  # experts
        "idefics2",  # three rows
        "mistral_large4",  # something happens between blocks
        "got_ocr2",
        "deepseek_vl_hybrid",
        "lfm3_vl",
        "vipllava",
        "git",
        "lighton_ocr",
        "cohere2_vision",
        "exaone4_5",
    )

    @cached_property
    def by_type(self) -> Mapping[str, str]:
        """Names of classes, by `model_type` in config.json."""
        from transformers.models.auto import modeling_auto

        found: Mapping[str, str] = (
            modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        )
        return found

    @property
    def model_types(self) -> tuple[str, ...]:
        """Values of `model_type` in config.json that it handles."""
        return tuple(self.by_type)

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
        module, found = self._outlined(folder)
        structure = found.structure
        counts = tuple(len(module.get_submodule(x.path)) for x in structure.rows)
        places = structure.places(counts)
        return place_linears(
            self.name, module, places, structure.rests, granularity, include
        )

    def structure(self, folder: Path) -> Structure:
        """Where the parts of a checkpoint's model are."""
        return self._outlined(folder)[1].structure

    def load(self, folder: Path, device: str, *, mapped: bool = False) -> Model:
        """Read the checkpoint; raise ModelError if it is damaged."""
        kind = self._class(read_plain_config(folder)["model_type"], folder)
        wording = _wording(folder)
        module = read_checkpoint(kind, folder, device, mapped=mapped)
        found = found_of(kind, module.config).fitted(module)
        return _whole(module, folder, device, wording, found)

    def load_packed(
        self, folder: Path, device: str, dtype: str, *, mapped: bool = False
    ) -> Model:
        """Read a checkpoint whose weights are quantized, as transformers does."""
        kind = self._class(read_config(folder)["model_type"], folder)
        wording = _wording(folder)
        module = read_packed(kind, folder, device, dtype, mapped=mapped)
        found = found_of(kind, module.config).fitted(_plain(kind, module.config))
        return _whole(module, folder, device, wording, found)

    def outline(self, folder: Path) -> Model:
        """The model without its weights."""
        module, found = self._outlined(folder)
        return _whole(module, folder, "cpu", _wording(folder), found)

    def tiny(self, folder: Path, variant: str) -> State:
        """Save a random-weight model for tests; return two prompts for it."""
        from transformers import AutoConfig

        from allocator.families._made_inputs import made_inputs
        from allocator.families._shrunk import shrunk
        from allocator.families._watching import random_weights

        config = shrunk(AutoConfig.for_model(variant))
        module = self._class(variant, folder)(config).eval()
        # how a reply of full length ends is none of the words' affair
        module.generation_config.forced_eos_token_id = None
        # new ones are so small that some blocks change nothing
        with random_weights(module):
            state = made_inputs(module)
            module.half().save_pretrained(folder)
        return state

    def _outlined(self, folder: Path) -> tuple[Any, Found]:
        """A folder's module without values, and where its parts are."""
        kind = self._class(read_plain_config(folder)["model_type"], folder)
        module = build(kind, folder)
        return module, found_of(kind, module.config).fitted(module)

    def _class(self, model_type: str, folder: Path) -> Any:
        if model_type not in self.by_type:
            raise ModelError(
                f"{folder} is a {model_type!r} model, and no image-text-to-text "
                "architecture of transformers is named so"
            )
        return model_class(self.by_type[model_type])


def _wording(folder: Path) -> Wording:
    read_advice(folder)
    return Wording.read(folder, SHORT_ANSWERS, chat=True)


def _plain(kind: Any, config: Any) -> Any:
    """A module without values of a configuration whose weights are quantized."""
    import torch

    said = f"a {config.model_type!r} configuration describes no model"
    with in_one_sentence(said), quiet(), torch.device("meta"):
        return kind(config)


def _whole(
    module: Any, folder: Path, device: str, wording: Wording, found: Found
) -> Whole:
    return Whole(
        module,
        folder,
        device,
        wording,
        partial(stages_of, found=found),
        prefix=found.course.prefix,
        found=found,
    )


PLUGIN: Family = Auto()
