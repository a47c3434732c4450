"""How long prompts are, before pictures are read: enough to sort samples by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from allocator.core.ports import Decoding, Sample, State

# language models that look up the place of a token: there is none for further ones
PLACED = ("opt",)
# pictures of equal tokens in a model that makes all pictures one size: height, width
SOME_SIZES = ([480, 640], [640, 480], [300, 100], [1200, 1600])


def lengths_of(
    processor: Any,
    inputs: Callable[[Sequence[Sample]], State],
    samples: Sequence[Sample],
    known: dict[Any, Any],
) -> list[int]:
    """Tokens of each sample's prompt, about.

    Of each kind of prompt one is made; the others have as many tokens more or less as
    their questions and pictures have. Where a processor does not tell those of
    pictures, all are taken for alike.

    Args:
        processor: of the checkpoint.
        inputs: makes the prompt of a sample.
        samples: to be asked.
        known: keeps what was found out.
    """
    # what cannot be encoded is refused with its sample where it is read
    texts = [each.text.encode(errors="replace").decode() for each in samples]
    asked = processor.tokenizer(texts, add_special_tokens=False).input_ids
    shown = _shown(processor, samples, known)
    own = [len(ids) + tokens for ids, tokens in zip(asked, shown, strict=True)]
    for sample, count in zip(samples, own, strict=True):
        if (kind := ("frame", sample.prompt)) not in known:
            made = inputs([sample])["attention_mask"].sum()
            known[kind] = int(made) - count
    pairs = zip(samples, own, strict=True)
    return [known["frame", sample.prompt] + count for sample, count in pairs]


def within_reach(module: Any, state: State, decoding: Decoding) -> Decoding:
    """How to reply to a batch: no longer than the model has places for its tokens."""
    text = module.config.get_text_config()
    if text.model_type not in PLACED:
        return decoding
    longest = int(state["attention_mask"].sum(1).max())
    # nobody reads the last token
    left = text.max_position_embeddings - longest + 1
    return replace(decoding, max_new_tokens=min(decoding.max_new_tokens, left))


def _shown(
    processor: Any, samples: Sequence[Sample], known: dict[Any, Any]
) -> list[int]:
    """Tokens of each sample's picture where they depend on its size; else none."""
    count = getattr(processor, "_get_num_multimodal_tokens", None)
    if count is None:
        return [0] * len(samples)

    def tokens(sizes: Sequence[Sequence[int]]) -> list[int]:
        try:
            found: list[int] = count(image_sizes=[*map(list, sizes)]).num_image_tokens
        except ValueError:
            if len(sizes) > 1:
                return [number for size in sizes for number in tokens([size])]
            # a shape that the processor does not take: reading it says of which sample
            return tokens(SOME_SIZES[:1])
        return found

    if "varies" not in known:
        known["varies"] = len(set(tokens(SOME_SIZES))) > 1
    if not known["varies"]:
        return [0] * len(samples)
    files = {sample.image: ("size", sample.image) for sample in samples}
    new = [file for file, name in files.items() if name not in known]
    counts = tokens([*map(size_of, new)])
    known.update(zip(map(files.get, new), counts, strict=True))
    return [known[files[sample.image]] for sample in samples]


def size_of(file: Path) -> tuple[int, int]:
    """Height and width of a picture, as the beginning of its file has it.

    Of one that cannot be read any: whoever reads it whole says what is wrong.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.height, image.width
    except Exception:
        height, width = SOME_SIZES[0]
        return height, width
