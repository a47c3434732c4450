"""Two prompts with a picture each for any module, made of its configuration alone.

There is no processor: pixels are random, and a prompt has as many image tokens as the
module makes features of its picture. What else a module wants to be told (grids, sizes,
kinds of tokens) follows from the names of what it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.errors import in_one_sentence
from allocator.families._checkpoint import quiet
from allocator.families._made_pictures import (
    FILM,
    IMAGE,
    cast,
    features_of,
    first,
    names_of,
    pictures,
    questions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allocator.core.ports import State

BEGIN = ("vision_start_token_id", "image_start_token_id", "boi_token_id")
END = ("vision_end_token_id", "image_end_token_id", "eoi_token_id")
# how many tokens a picture's features stand for where the module does not tell
QUERIES = ("num_query_tokens", "latent_query_num")
START = ("decoder_start_token_id", "bos_token_id")
PADDING = 0
WORDS = 5
LARGEST = 64
UNNAMED = 3  # stands for pictures where no token is named for them


def made_inputs(module: Any) -> State:
    """Two prompts with one picture each, the second padded on the left by one token.

    Args:
        module: of transformers, small or not, with values.

    Returns:
        What `module(**state)` and `module.generate(**state)` take.

    Raises:
        ModelError: nobody knows how to make what the module takes.
    """
    kind = module.config.model_type
    with in_one_sentence(f"inputs of a {kind!r} model cannot be made"), quiet():
        shown = pictures(module)
        state = {**shown, **_prompts(module, _lengths(module, shown))}
        taken = names_of(module)
        for name, make in MORE.items():
            if name in taken:
                state |= make(module, state)
        if _reads_pictures_alone(module, taken):
            del state["input_ids"], state["attention_mask"]
        return {k: cast(value, module) for k, value in state.items() if k in taken}


def _reads_pictures_alone(module: Any, taken: set[str]) -> bool:
    """Whether the only words are those that a decoder writes."""
    pixels = module.main_input_name in ("pixel_values", "flattened_patches")
    return "input_ids" not in taken or (module.config.is_encoder_decoder and pixels)


def _lengths(module: Any, shown: State) -> list[int]:
    """How many tokens of a prompt stand for its picture."""
    features = features_of(module, shown)
    if features is None:
        return [first(module.config, QUERIES, 1)] * 2
    if isinstance(features, list | tuple) and len(features) == 2:
        return [_count(each) for each in features]
    if not isinstance(features, list | tuple):
        features = [features]
    return [sum(_count(each) for each in features) // 2] * 2


def _count(features: Any) -> int:
    return int(features.numel() // features.shape[-1])


def _prompts(module: Any, lengths: list[int]) -> State:
    """Words around the tokens of both pictures."""
    import torch

    config = module.config
    words = _words(config)
    image = first(config, (*IMAGE, *FILM))
    if image is None and "image_embeds_position_mask" in names_of(module):
        image = UNNAMED
    lines = [
        [words[0], *_shown(config, image, length), *words[1:]] for length in lengths
    ]
    lines[1].pop()
    longest = max(len(lines[0]), len(lines[1]) + 1)
    blank = [longest - len(line) for line in lines]
    rows = [[PADDING] * n + line for n, line in zip(blank, lines, strict=True)]
    mask = [[0] * n + [1] * (longest - n) for n in blank]
    return {"input_ids": torch.tensor(rows), "attention_mask": torch.tensor(mask)}


def _shown(config: Any, image: int | None, length: int) -> list[int]:
    """The tokens that stand for a picture, with those around them."""
    if image is None:
        return []
    begin, end = first(config, BEGIN), first(config, END)
    around = [[n] if n is not None else [] for n in (begin, end)]
    return [*around[0], *[image] * length, *around[1]]


def _words(config: Any) -> list[int]:
    """Numbers of some words, none of which has a meaning of its own."""
    special = set(_special(config.to_dict()))
    return [n for n in range(UNNAMED + 1, LARGEST) if n not in special][:WORDS]


def _special(plain: dict[str, Any]) -> Iterator[int]:
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from _special(value)
        elif str(key).endswith(("_id", "_ids", "_index")):
            yield from value if isinstance(value, list) else [value]


def _is_image(module: Any, state: State) -> Any:
    return state["input_ids"] == first(module.config, (*IMAGE, *FILM), UNNAMED)


def _decoded(module: Any, _: State) -> State:
    """The beginning of what a decoder with an encoder writes."""
    import torch

    config = module.config
    if not config.is_encoder_decoder:
        return {}
    text = config.get_text_config(decoder=True)
    start = first(config, START, first(text, START, 0))
    return {"decoder_input_ids": torch.tensor([[start, *_words(config)[:2]]] * 2)}


def _boxes(_: Any, state: State) -> State:
    """Where words stand on a page: from left and top to right and bottom."""
    import torch

    box = torch.tensor([0.1, 0.1, 0.2, 0.2])
    return {"bbox": box.expand(*state["input_ids"].shape, 4).clone()}


def _seen(_: Any, state: State) -> State:
    """Which words see which pictures: all see the only one."""
    return {"image_attention_mask": state["attention_mask"][:, :, None]}


def _seen_tiles(_: Any, state: State) -> State:
    tiles = state["aspect_ratio_mask"]
    words = state["attention_mask"][:, :, None, None]
    return {"cross_attention_mask": words * tiles[:, None]}


# further arguments, and what they are of two prompts
MORE: dict[str, Callable[[Any, State], State]] = {
    "mm_token_type_ids": lambda module, state: {
        "mm_token_type_ids": _is_image(module, state).int()
    },
    # which tokens go to experts for pictures
    "moe_mm_token_type_ids": lambda module, state: {
        "moe_mm_token_type_ids": _is_image(module, state).int()
    },
    "token_type_ids": lambda module, state: {
        "token_type_ids": _is_image(module, state).long()
    },
    "image_embeds_position_mask": lambda module, state: {
        "image_embeds_position_mask": _is_image(module, state).long()
    },
    "decoder_input_ids": _decoded,
    "qformer_input_ids": lambda _, __: questions(),
    "bbox": _boxes,
    "image_attention_mask": _seen,
    "cross_attention_mask": _seen_tiles,
}
