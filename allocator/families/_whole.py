"""A model that was placed by its structure, as the rest of the project sees it.

Correct before quick: pictures of equal content are not shared, and questions do not
branch from theirs. What the prefix has made of pictures is fed while it replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import AllocateError, ModelError
from allocator.families._calls import replaced
from allocator.families._generation import generate
from allocator.families._made_pictures import IMAGE
from allocator.families._passes import OWN, Passes
from allocator.families._pipeline import Pipeline
from allocator.families._translating import decoded
from allocator.families._wording import reply_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Decoding, Sample, Stage, State
    from allocator.families._branching import Branches
    from allocator.families._found import Found


@dataclass(frozen=True)
class Whole(Pipeline):
    """A model that replies; see `allocator.core.ports.Model`.

    `found` says how it is cut.
    """

    found: Found | None = None

    @property
    def _ends_prompts(self) -> bool:  # type: ignore[override]
        """Whether an encoder reads where a prompt ends."""
        return bool(self.module.config.is_encoder_decoder)

    @property
    def processor(self) -> Any:
        """The checkpoint's; it says which token stands for a picture.

        Raises:
            ModelError: see `read_processor`, or no file names that token.
        """
        found = super().processor
        if getattr(found, "image_token", None) is None:
            found.image_token = self._image_token(found.tokenizer)
        return found

    def _image_token(self, tokenizer: Any) -> str:
        numbers = (getattr(self.module.config, name, None) for name in IMAGE)
        number = next((n for n in numbers if isinstance(n, int)), None)
        if number is None or number >= len(tokenizer):
            raise ModelError(
                f"neither the processor of {self.folder} nor its config.json names a "
                "token that stands for a picture"
            )
        token: str = tokenizer.convert_ids_to_tokens(number)
        return token

    def lengths(self, samples: Sequence[Sample]) -> list[int]:
        """Tokens of each sample's prompt, about; of its words, if no more is known."""
        try:
            return super().lengths(samples)
        except AllocateError:
            raise
        except Exception:
            # not every processor tells how many tokens it makes of a picture
            texts = [each.text.encode(errors="replace").decode() for each in samples]
            return [len(ids) for ids in self.processor.tokenizer(texts).input_ids]

    def inputs(self, samples: Sequence[Sample], *, answered: bool = False) -> State:
        """Pixels and prompts of a batch; a decoder reads the replies."""
        if not self.module.config.is_encoder_decoder:
            return super().inputs(samples, answered=answered)
        state = self.processed(samples, self.texts(samples))
        start, tokenizer = self._start(), self.processor.tokenizer
        replies = [[start] for _ in samples]
        if answered:
            texts = [reply_to(sample) for sample in samples]
            said = tokenizer(texts, add_special_tokens=False).input_ids
            replies = [[start, *ids] for ids in said]
        return {**state, **decoded(replies, tokenizer.pad_token_id, self.device)}

    def _start(self) -> int:
        """The token that a decoder begins with.

        Raises:
            ModelError: no file of the checkpoint names it.
        """
        advice, config = self.module.generation_config, self.module.config
        text = config.get_text_config(decoder=True)
        for each in (advice, text, config):
            found = getattr(each, "decoder_start_token_id", None)
            if isinstance(found, int):
                return found
        raise ModelError(
            f"{self.folder}/config.json has no decoder_start_token_id, with which a "
            "decoder begins"
        )

    def processed(
        self,
        samples: Sequence[Sample],
        texts: Sequence[str],
        *,
        shared: bool = False,
        **more: Sequence[str],
    ) -> State:
        """What the checkpoint's processor makes of pictures and texts, each its own."""
        del shared
        state = super().processed(samples, texts, shared=False, **more)
        if self.device.startswith("cpu"):
            return state
        # not every model casts its pixels
        dtype = self.module.dtype
        return {
            k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()
        }

    def branches(
        self, module: Any, state: State, decoding: Decoding
    ) -> Branches | None:
        """None: questions are asked as they are."""
        del module, state, decoding
        return None

    def reply_ids(self, state: State, decoding: Decoding) -> Any:
        """Tokens of the replies alone: [batch, tokens].

        What the prefix has made is fed, unless there are beams: transformers repeats
        the inputs for each.
        """
        assert self.found is not None
        module, forwards = self.module, {}
        if decoding.beams == 1 and self.prefix:
            forwards = _passes(module, self.found).prefix(state)
        told = {k: v for k, v in state.items() if k not in OWN and not _is_reply(k)}
        parts = [module.get_submodule(name) for name in forwards]
        with replaced(parts, list(forwards.values())):
            ids = generate(module, decoding, self.ends, **told)
        return _behind(ids, state.get("input_ids"), module.config)


def stages_of(module: Any, found: Found) -> tuple[Stage, ...]:
    """A module's stages, as was found."""
    return _passes(module, found).stages()


def _passes(module: Any, found: Found) -> Passes:
    return Passes(module, found.structure, found.course)


def _is_reply(name: str) -> bool:
    return name.startswith("decoder_")


def _behind(ids: Any, prompts: Any, config: Any) -> Any:
    """Tokens behind the prompts, if there are any and a model repeats them."""
    count = 0 if prompts is None else prompts.shape[1]
    if count and ids.shape[1] > count and bool((ids[:, :count] == prompts).all()):
        return ids[:, count:]
    # a decoder repeats what it begins with
    return ids[:, 1:] if config.is_encoder_decoder else ids
