"""BLIP-2: ViT and Q-Former with an OPT or Flan-T5 language model, or for retrieval.

Li et al., "BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders
and Large Language Models", arXiv 2301.12597.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families import _blip2_opt as opt
from allocator.families import _blip2_retrieval as retrieval
from allocator.families import _blip2_t5 as t5
from allocator.families._blip2_ranking import Ranking
from allocator.families._blip2_reply import Replying
from allocator.families._checkpoint import (
    part_of_config,
    read_config,
    read_plain_config,
)
from allocator.families._generation import read_advice
from allocator.families._modules import build, model_class, read_checkpoint
from allocator.families._packed import read_packed
from allocator.families._places import place_linears
from allocator.families._tiny import IMAGE, SIZES, VOCABULARY, two_prompts
from allocator.families._wording import Wording

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Family, Model, Prediction, Stage, State
    from allocator.core.spec import Granularity, ModelSpec
    from allocator.families._pipeline import Pipeline
    from allocator.families._places import Place, Rest

# prompts of the authors' zero-shot evaluation; Flan-T5 is told to be short
SHORT = "Question: {} Short answer:"
PROMPTS = {
    "vqa": "Question: {} Answer:",
    "gqa": SHORT,
    "caption": "a photo of",
    "plain": "{}",
}
LANGUAGES = ("opt", "t5")
REPLYING, RETRIEVING = "Blip2ForConditionalGeneration", "Blip2ForImageTextRetrieval"


@dataclass(frozen=True)
class Variant:
    """One architecture: its class in transformers, and what is its own.

    `mend` corrects a module as transformers builds or reads it. `tiny_config` and
    `tiny_state` are those of a small model for tests, beside what all variants have.
    """

    model_class: str
    places: Callable[[Any], tuple[Place, ...]]
    rests: tuple[Rest, ...]
    lay_stages: Callable[[Any], tuple[Stage, ...]]
    pipeline: type[Pipeline]
    tiny_config: Callable[[], Mapping[str, Any]]
    tiny_state: Callable[[], State] = dict
    mend: Callable[[Any], None] = lambda _: None
    prompts: Mapping[str, str] = field(default_factory=lambda: PROMPTS)


VARIANTS = {
    "opt": Variant(
        REPLYING, opt.places, opt.RESTS, opt.lay_stages, Replying, opt.tiny_language
    ),
    "t5": Variant(
        REPLYING,
        t5.places,
        t5.RESTS,
        t5.lay_stages,
        t5.Translating,
        t5.tiny_language,
        t5.tiny_replies,
        t5.part_head,
        {**PROMPTS, "vqa": SHORT},
    ),
    "retrieval": Variant(
        RETRIEVING,
        retrieval.places,
        retrieval.RESTS,
        retrieval.lay_stages,
        Ranking,
        opt.tiny_language,
        retrieval.tiny_texts,
    ),
}


class Blip2:
    """Finds the parts of BLIP-2 models."""

    model_types = ("blip-2",)
    variants = tuple(VARIANTS)

    def gives(self, folder: Path) -> Prediction:
        """What a checkpoint predicts."""
        kind = _kind(folder, read_config(folder))
        return "ranking" if kind == "retrieval" else "reply"

    def spec(
        self,
        folder: Path,
        granularity: Granularity = "type",
        include: Sequence[str] = (),
    ) -> ModelSpec:
        """Groups and sizes from the configuration alone."""
        variant = VARIANTS[_name(folder)]
        module = build(model_class(variant.model_class), folder)
        variant.mend(module)
        places = variant.places(module)
        return place_linears(
            "blip2", module, places, variant.rests, granularity, include
        )

    def load(self, folder: Path, device: str, *, mapped: bool = False) -> Model:
        """Read the checkpoint; raise ModelError if it is damaged."""
        variant = VARIANTS[_name(folder)]
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
        variant = VARIANTS[_kind(folder, read_config(folder))]
        wording = _wording(variant, folder)
        module = read_packed(
            model_class(variant.model_class), folder, device, dtype, mapped=mapped
        )
        return _pipeline(variant, module, folder, device, wording)

    def outline(self, folder: Path) -> Model:
        """The model without its weights."""
        variant = VARIANTS[_name(folder)]
        module = build(model_class(variant.model_class), folder)
        return _pipeline(variant, module, folder, "cpu", _wording(variant, folder))

    def tiny(self, folder: Path, variant: str) -> State:
        """Save a random-weight model for tests; return two prompts for it."""
        from transformers import Blip2Config

        chosen = VARIANTS[variant]
        sizes: dict[str, Any] = {**SIZES, "initializer_range": 0.05}
        config = Blip2Config(
            vision_config={**sizes, "image_size": 16, "patch_size": 8},
            qformer_config={
                **sizes,
                "encoder_hidden_size": 64,
                "vocab_size": VOCABULARY,
                "use_qformer_text_input": chosen.model_class == RETRIEVING,
            },
            text_config=dict(chosen.tiny_config()),
            num_query_tokens=4,
            image_token_index=IMAGE,
        )
        model = model_class(chosen.model_class)(config)
        chosen.mend(model)
        model.query_tokens.data.normal_(std=0.5)
        model.half().save_pretrained(folder)
        prompts = two_prompts([IMAGE] * 4, (2, 3, 16, 16))
        return {**prompts, **chosen.tiny_state()}


PLUGIN: Family = Blip2()


def _wording(variant: Variant, folder: Path) -> Wording:
    read_advice(folder)
    return Wording.read(folder, variant.prompts)


def _pipeline(
    variant: Variant, module: Any, folder: Path, device: str, wording: Wording
) -> Model:
    variant.mend(module)
    return variant.pipeline(module, folder, device, wording, variant.lay_stages)


def _name(folder: Path) -> str:
    """Which variant a checkpoint is, as it was trained."""
    return _kind(folder, read_plain_config(folder))


def _kind(folder: Path, config: Mapping[str, Any]) -> str:
    """Which variant a configuration describes.

    Raises:
        ModelError: none of them, or in a form that transformers no longer reads.
    """
    named = config.get("architectures")
    kind = named[0] if isinstance(named, list) and named else REPLYING
    language = part_of_config(config, "text_config").get("model_type", "opt")
    if kind == RETRIEVING:
        queries = part_of_config(config, "qformer_config")
        reads = queries.get("use_qformer_text_input")
        _check_new(folder, "qformer_config.use_qformer_text_input", reads)
        return "retrieval"
    if kind != REPLYING or language not in LANGUAGES:
        raise ModelError(
            f"{folder} is a {kind} with a {language!r} language model; family blip2 "
            f"reads {REPLYING} with {' or '.join(LANGUAGES)}, and {RETRIEVING}"
        )
    _check_new(folder, "image_token_index", config.get("image_token_index"))
    return str(language)


def _check_new(folder: Path, key: str, value: object) -> None:
    if not value:
        raise ModelError(
            f"{folder}/config.json has no {key}: "
            "take a newer revision of the checkpoint"
        )
