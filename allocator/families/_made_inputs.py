"""Two prompts with a picture each for any module, made of its configuration alone.

There is no processor: pixels are random, and a prompt has as many image tokens as the
module makes features of its picture. What else a module wants to be told (grids, sizes,
kinds of tokens) follows from the names of what it takes.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, in_one_sentence
from allocator.families._checkpoint import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import State

# patches of two pictures, one lying and one standing
GRIDS = ((1, 4, 8), (1, 8, 4))
SIDE = 8  # patches along a picture's side where no configuration says its size
IMAGE = ("image_token_id", "image_token_index", "image_patch_id")
BEGIN = ("vision_start_token_id", "image_start_token_id", "boi_token_id")
END = ("vision_end_token_id", "image_end_token_id", "eoi_token_id")
PADDING = 0
MOST_WORDS = 64


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
        taken = set(inspect.signature(module.forward).parameters)
        pictures = _pictures(module, taken)
        tokens = _features(module, pictures)
        return _prompts(module, taken, pictures, tokens)


def _pictures(module: Any, taken: set[str]) -> State:
    """Random pixels of two pictures, and what tells their sizes."""
    if "image_grid_thw" in taken:
        return _rows_of_patches(module)
    if "pixel_values" in taken:
        return _squares(module, taken)
    raise ModelError(f"it takes no pixels but {', '.join(sorted(taken))}")


def _rows_of_patches(module: Any) -> State:
    """Patches of both pictures in one row, with a grid for each picture."""
    import torch

    tower = _tower(module.config)
    patch = _one(_first(tower, ("patch_size",)))
    frames = _first(tower, ("temporal_patch_size",)) or 1
    channels = _first(tower, ("in_channels", "num_channels", "in_chans")) or 3
    count = sum(t * h * w for t, h, w in GRIDS)
    return {
        "pixel_values": _random(count, channels * frames * patch * patch),
        "image_grid_thw": torch.tensor(GRIDS),
    }


def _squares(module: Any, taken: set[str]) -> State:
    """Two pictures of the size that the tower was made for."""
    import torch

    tower = _tower(module.config)
    patch = _one(_first(tower, ("patch_size",))) or 16
    size = _first(tower, ("image_size",)) or patch * SIDE
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = _first(tower, ("num_channels", "in_channels")) or 3
    state = {"pixel_values": _random(2, channels, height, width)}
    if "image_sizes" in taken:
        state["image_sizes"] = torch.tensor([[height, width]] * 2)
    return state


def _features(module: Any, pictures: State) -> list[int]:
    """How many features a module makes of each picture."""
    import torch

    ask = getattr(module, "get_image_features", None)
    if ask is None:
        ask = getattr(module.model, "get_image_features", None)
    if ask is None:
        raise ModelError("it does not tell what it makes of pictures")
    with torch.no_grad():
        made = ask(**pictures)
    found = getattr(made, "pooler_output", made)
    if isinstance(found, list | tuple) and len(found) == 2:
        return [_count(each) for each in found]
    if isinstance(found, list | tuple):
        found = torch.cat([each.flatten(0, -2) for each in found])
    return [_count(found) // 2] * 2


def _count(features: Any) -> int:
    return int(features.numel() // features.shape[-1])


def _prompts(
    module: Any, taken: set[str], pictures: State, counts: Sequence[int]
) -> State:
    """Words around the tokens of both pictures."""
    import torch

    config = module.config
    image = _first(config, IMAGE)
    if image is None:
        raise ModelError("its configuration names no image token")
    begin = [n for n in [_first(config, BEGIN)] if n is not None]
    end = [n for n in [_first(config, END)] if n is not None]
    words = _words(config)
    lines = [
        [*words[:1], *begin, *[image] * count, *end, *words[1:]] for count in counts
    ]
    lines[1] = lines[1][:-1]
    longest = max(len(lines[0]), len(lines[1]) + 1)
    rows = [[PADDING] * (longest - len(line)) + line for line in lines]
    ids = torch.tensor(rows)
    shown = torch.ones_like(ids)
    for row, line in zip(shown, lines, strict=True):
        row[: longest - len(line)] = 0
    state = {**pictures, "input_ids": ids, "attention_mask": shown}
    if "mm_token_type_ids" in taken:
        state["mm_token_type_ids"] = (ids == image).int()
    if "token_type_ids" in taken:
        state["token_type_ids"] = (ids == image).long()
    return state


def _words(config: Any) -> list[int]:
    """Numbers of some words, none of which has a meaning of its own."""
    special = {
        number
        for part in _parts(config.to_dict())
        for key, value in part.items()
        if key.endswith(("_id", "_index"))
        for number in (value if isinstance(value, list) else [value])
    }
    return [n for n in range(3, MOST_WORDS) if n not in special][:5]


def _parts(plain: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [v for v in plain.values() if isinstance(v, dict)]
    return [
        {k: v for k, v in plain.items() if isinstance(k, str)},
        *(part for one in inner for part in _parts(one)),
    ]


def _tower(config: Any) -> Any:
    return getattr(config, "vision_config", config)


def _first(config: Any, names: Sequence[str]) -> Any:
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if value is not None), None)


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) else value


def _random(*shape: int) -> Any:
    import torch

    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator)
