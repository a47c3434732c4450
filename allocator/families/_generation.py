"""How replies are generated: never at random, up to what ends them.

What is left to chance or to the length of a reply in a checkpoint's advice
(generation_config.json) does not count here; what follows from the words alone does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families._checkpoint import part_of_config, read_config
from allocator.families._json import is_there, read_json
from allocator.families._thoughts import answer_in, begun, number_of, spoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Decoding

ADVICE = "generation_config.json"
KEPT_AS = "generation_config"
# of the advice: tokens that have a part to play, and what bars or weighs words the
# same way whenever it is asked
KEPT = (
    "bos_token_id",
    "decoder_start_token_id",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size",
    "suppress_tokens",
    "begin_suppress_tokens",
    "bad_words_ids",
)


@dataclass(frozen=True)
class Ends:
    """What ends a reply: tokens by number, and texts that are no token."""

    ids: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()

    def replies(
        self,
        rows: Sequence[Sequence[int]],
        tokenizer: Any,
        prompts: Sequence[Sequence[int]],
    ) -> list[str]:
        """Texts of generated tokens behind their prompts; see `reply`."""
        pairs = zip(rows, prompts, strict=True)
        return [self.reply(ids, tokenizer, begun(own, tokenizer)) for ids, own in pairs]

    def reply(self, ids: Sequence[int], tokenizer: Any, thought: str = "") -> str:
        """The text of generated tokens up to the first end, behind all thoughts.

        `thought` is the mark of one that the prompt has begun.
        """
        end = next((n for n, each in enumerate(ids) if each in self.ids), len(ids))
        text = answer_in(thought + spoken(ids[:end], tokenizer))
        for each in self.texts:
            text = text.partition(each)[0]
        return text.strip()

    def lacking(
        self, rows: Sequence[Sequence[int]], tokenizer: Any, decoding: Decoding
    ) -> int:
        """How many replies were cut off: as long as may be, and without an end."""
        return sum(
            len(ids) >= decoding.max_new_tokens and not self._among(ids, tokenizer)
            for ids in rows
        )

    def _among(self, ids: Sequence[int], tokenizer: Any) -> bool:
        if any(each in self.ids for each in ids):
            return True
        return any(text in tokenizer.decode(ids) for text in self.texts)


def named_ends(folder: Path, rows: int, tokenizer: Any = None) -> Ends:
    """Every end that generation_config.json, config.json and the tokenizer name.

    Checkpoints are trained to end a reply with one of them, and others often name
    another. Only what files say counts, not what a class supposes.

    Args:
        folder: the checkpoint's.
        rows: of the embedding; a token beyond cannot be said.
        tokenizer: its own end token counts; None where nobody asks in words.

    Raises:
        ModelError: a file names what is no token.
    """
    config, advice = read_config(folder), read_advice(folder)
    parts = (advice, config, part_of_config(config, "text_config"))
    ids: list[int | None] = [n for part in parts for n in _numbers(folder, part)]
    texts = []
    if tokenizer is not None:
        if tokenizer.eos_token is not None:
            ids.append(number_of(tokenizer, str(tokenizer.eos_token)))
        for text in _texts(folder, advice.get("stop_strings")):
            number = number_of(tokenizer, text)
            ids.append(number)
            texts += [text] if number is None else []
    said = [number for number in ids if number is not None and 0 <= number < rows]
    return Ends(tuple(dict.fromkeys(said)), tuple(texts))


def read_advice(folder: Path) -> dict[str, Any]:
    """A checkpoint's generation_config.json; empty where there is none.

    Raises:
        ModelError: it cannot be read.
    """
    file = folder / ADVICE
    if not is_there(file):
        return {}
    found: Any = read_json(file)
    if not isinstance(found, dict):
        raise ModelError(f"{file} holds no settings: it is no object")
    return found


def _numbers(folder: Path, part: Mapping[str, Any]) -> list[int]:
    """Ends by number, as one or in a list."""
    found = part.get("eos_token_id")
    several = found if isinstance(found, list) else [found]
    numbers = [number for number in several if number is not None]
    if not all(type(number) is int for number in numbers):
        raise ModelError(
            f"{folder} says that eos_token_id is {found!r}; it has to be a token's "
            "number, or a list of such"
        )
    return numbers


def _texts(folder: Path, found: object) -> Iterable[str]:
    several = [found] if isinstance(found, str) else found or []
    if not isinstance(several, list) or not all(isinstance(t, str) for t in several):
        raise ModelError(f"{folder}/{ADVICE} has stop_strings {found!r}: no texts")
    return [text for text in several if text]


def generate(module: Any, decoding: Decoding, ends: Ends, **inputs: Any) -> Any:
    """Tokens that a transformers module generates: [batch, tokens]."""
    # some models leave it to a part of theirs, which has a configuration of its own
    parts = [m for m in module.modules() if getattr(m, KEPT_AS, None) is not None]
    before = [part.generation_config for part in parts]
    settings = _settings(module, decoding, ends)
    try:
        for part in parts:
            # transformers fills what a call leaves open from here
            part.generation_config = settings
        return module.generate(**inputs)
    finally:
        for part, own in zip(parts, before, strict=True):
            part.generation_config = own


def _settings(module: Any, decoding: Decoding, ends: Ends) -> Any:
    from transformers import GenerationConfig

    advice = module.generation_config
    kept = {key: getattr(advice, key, None) for key in KEPT}
    # only random-weight models without a tokenizer name no end
    named = list(ends.ids) or advice.eos_token_id
    padding, rows = advice.pad_token_id, module.get_input_embeddings().num_embeddings
    if (padding is None or not 0 <= padding < rows) and named is not None:
        padding = named[0] if isinstance(named, list) else named
    return GenerationConfig(
        **{key: value for key, value in kept.items() if value is not None},
        eos_token_id=named,
        pad_token_id=padding,
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.beams,
        # transformers warns of it where there is no beam
        length_penalty=decoding.length_penalty if decoding.beams > 1 else None,
        do_sample=False,
    )
