"""BLIP-2 with a language model: what all of those have between image and words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.core.ports import Stage
from allocator.families._blip2_image import lay_qformer, lay_vision
from allocator.families._branching import branched
from allocator.families._generation import generate
from allocator.families._pipeline import Pipeline
from allocator.families._places import Rest
from allocator.families._sharing import PICTURE, shown_once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from allocator.core.ports import Decoding, Sample, State

PROJECTION = Rest(
    r"language_projection",
    "one matrix between Q-Former and language model, outside the published groups",
)


class Replying(Pipeline):
    """A BLIP-2 whose language model continues from embeddings."""

    def predict(
        self,
        states: Iterable[State],
        samples: Sequence[Sample],
        decoding: Decoding,
        tick: Callable[[int], object],
    ) -> list[Any]:
        """Replies; beams prefer short answers, as its authors have it."""
        if samples[0].prompt != "caption":
            decoding = replace(decoding, length_penalty=-1.0)
        return super().predict(states, samples, decoding, tick)

    def _batch(
        self,
        images: Sequence[Any],
        texts: Sequence[str],
        more: Mapping[str, Sequence[str]],
    ) -> Any:
        """As others; this processor does not look which text shows which picture."""
        firsts, rows = shown_once(images)
        batch = super()._batch([images[n] for n in firsts], texts, more)
        if len(firsts) < len(rows):
            batch[PICTURE] = batch["input_ids"].new_tensor(rows)
        return batch

    def reply_ids(self, state: State, decoding: Decoding) -> Any:
        """Tokens of the replies alone: [batch, tokens]."""
        module, language = self.module, self.module.language_model
        found = self.branches(language, state, decoding)
        if found is None:
            whole = _read(embed(module, state), state)
            return generate(language, decoding, self.ends, **whole)
        begun = {**found.begun, "features": state["features"]}
        # what stands for pictures in these is not read again
        words = module.get_input_embeddings()(found.whole["input_ids"])
        told = _read(embed(module, begun), begun), _read(words, found.whole)
        return branched(language, decoding, self.ends, found, told)


def _read(words: Any, texts: State) -> dict[str, Any]:
    return {"inputs_embeds": words, "attention_mask": texts["attention_mask"]}


def lay_image(module: Any) -> list[Stage]:
    """The stages of ViT and Q-Former, up to what the language model reads."""
    qformer = module.qformer

    def start(state: State) -> State:
        tokens = module.query_tokens.expand(state["seen"].shape[0], -1, -1)
        tokens = tokens.to(qformer.layernorm.weight.dtype)
        return {**state, "read": qformer.layernorm(tokens)}

    def finish(state: State) -> State:
        kept = {k: v for k, v in state.items() if k not in ("seen", "read")}
        read = state["read"].to(module.language_projection.weight.dtype)
        return {**kept, "features": module.language_projection(read)}

    queries = ("query_tokens", "qformer.layernorm")
    return [
        *lay_vision(module, "seen"),
        Stage("connector.embed", "connector", start, queries),
        *lay_qformer(module, text=False),
        Stage("connector.project", "connector", finish, ("language_projection",)),
    ]


def embed(module: Any, state: State) -> Any:
    """Prompt embeddings [batch, tokens, width] with the image features laid in.

    Raises:
        ValueError: the prompts leave another number of image tokens than features;
            whoever runs this names the model.
    """
    ids = state["input_ids"]
    words = module.get_input_embeddings()(ids)
    shown = state["features"].to(words.dtype)
    if PICTURE in state:
        shown = shown[state[PICTURE]]
    at = (ids == module.config.image_token_id).unsqueeze(-1)
    if int(at.sum()) != shown.shape[0] * shown.shape[1]:
        raise ValueError(
            f"the prompts hold {int(at.sum())} image tokens for "
            f"{shown.shape[0] * shown.shape[1]} image features: "
            "model and processor do not belong together"
        )
    return words.masked_scatter(at, shown)
