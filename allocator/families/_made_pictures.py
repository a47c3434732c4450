"""Random pixels of two pictures, as whatever module wants them to lie.

Some take squares, some patches in a row with the grids they come from, some several
tiles of a picture. Names of arguments tell which; where two layouts go by the same
names, the first that the module makes features of is the one.
"""

from __future__ import annotations

import inspect
from math import prod
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allocator.core.ports import State

# patches of two pictures, one lying and one standing
GRIDS = ((4, 8), (8, 4))
COUNT = 32  # of each
SIDE = 4  # patches along a picture's side where no configuration says its size
IMAGE = ("image_token_id", "image_token_index", "image_patch_id")
FILM = ("video_token_id", "video_token_index")
CHANNELS = ("num_channels", "in_channels", "in_chans")
FRAMES = ("temporal_patch_size", "patch_temporal")
TOWERS = ("vision_config", "vq_config", "encoder")
MERGE = ("spatial_merge_size", "merge_size")


def names_of(module: Any) -> set[str]:
    """What a module takes, itself or where it makes features of pictures."""
    functions = [module.forward, *_askers(module)]
    return {name for f in functions for name in inspect.signature(f).parameters}


def pictures(module: Any) -> State:
    """Pixels of two pictures, with what tells how they lie.

    Raises:
        ModelError: nobody knows which, or the module takes none of what is known.
    """
    taken = names_of(module)
    for wanted, made in LAYOUTS.items():
        if wanted in taken:
            return _accepted(module, list(made(module, taken)))
    kind, known = module.config.model_type, ", ".join(sorted(taken))
    raise ModelError(f"a {kind!r} model takes no pictures that are known, but {known}")


def features_of(module: Any, pixels: State) -> Any:
    """What a module makes of pictures; None: it does not tell."""
    import torch

    ask = next(iter(_askers(module)), None)
    if ask is None:
        return None
    known = inspect.signature(ask).parameters
    if "qformer_input_ids" in known:
        pixels = {**pixels, **questions()}
    given = {k: cast(value, module) for k, value in pixels.items() if k in known}
    with torch.no_grad():
        made = ask(**given)
    pooled = getattr(made, "pooler_output", made)
    if pooled is None and getattr(made, "deepstack_features", None):
        # pairs of a language block and what it is given
        return made.deepstack_features[0][1]
    return made.last_hidden_state if pooled is None else pooled


def cast(value: Any, module: Any) -> Any:
    """A tensor where a module is, and of its type where it is no number of a token."""
    dtype = module.dtype if value.is_floating_point() else value.dtype
    return value.to(module.device, dtype)


def questions() -> State:
    """Words that say to a Q-Former what to look at."""
    import torch

    words = torch.tensor([[5, 6, 7]] * 2)
    return {"qformer_input_ids": words, "qformer_attention_mask": words.ne(0).long()}


def _askers(module: Any) -> list[Callable[..., Any]]:
    """Functions that make features of pictures, the one with names of its own first."""
    inner = getattr(module, "model", None)
    found = [getattr(each, "get_image_features", None) for each in (inner, module)]
    return [ask for ask in found if ask is not None]


def _accepted(module: Any, layouts: Sequence[State]) -> State:
    """The first layout that the module makes features of."""
    refusals: list[Exception] = []
    for pixels in layouts:
        try:
            features_of(module, pixels)
        except Exception as error:
            refusals.append(error)
        else:
            return pixels
    # the likeliest layout is the first
    raise refusals[0]


def tower_of(config: Any) -> Any:
    """The part of a configuration that is about pictures, else all of it."""
    named = [each for name in TOWERS for each in _named(config, name)]
    return named[0] if named else config


def _named(config: Any, name: str) -> Iterator[Any]:
    from transformers import PreTrainedConfig

    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            if key == name:
                yield value
            yield from _named(value, name)


def reads_films(config: Any) -> bool:
    """Whether there is a token for films alone, whose frames then are pictures."""
    return first(config, IMAGE) is None and first(config, FILM) is not None


def first(config: Any, names: Sequence[str], default: Any = None) -> Any:
    """The first of some settings that a configuration has."""
    found = (getattr(config, name, None) for name in names)
    return next((value for value in found if value is not None), default)


def one(value: Any) -> Any:
    """A size, or the first of several."""
    return value[0] if isinstance(value, list | tuple) else value


def random(*shape: int) -> Any:
    """Pixels, the same ones each time."""
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _sizes(module: Any) -> tuple[int, int]:
    """Pixels along a patch, and values of a pixel."""
    tower = tower_of(module.config)
    return one(first(tower, ("patch_size",), 16)), first(tower, CHANNELS, 3)


def _grids(module: Any, taken: set[str]) -> Iterator[State]:
    """Patches of both pictures in one row, with a grid for each picture."""
    import torch

    patch, channels = _sizes(module)
    tower = tower_of(module.config)
    frames = first(tower, FRAMES, 1)
    merge = first(tower, MERGE, 1)
    told: State = {"image_grid_thw": torch.tensor([(1, *grid) for grid in GRIDS])}
    if "image_merge_sizes" in taken:
        told["image_merge_sizes"] = torch.tensor([2] * len(GRIDS))
    row = 2 * COUNT
    for shape in (
        (row, channels * frames * patch * patch),
        (row, channels, patch, patch),
        (1, row, channels, patch, patch),
        # a grid of what stands for one token, which several patches are
        (row, merge * patch, merge * patch, channels),
    ):
        yield {"pixel_values": random(*shape), **told}


def _flat_grids(module: Any, _: set[str]) -> Iterator[State]:
    """As `_grids`, for grids without a time."""
    import torch

    patch, channels = _sizes(module)
    yield {
        "pixel_values": random(2 * COUNT, channels * patch * patch),
        "image_grid_hw": torch.tensor(GRIDS),
    }


def _shapes(module: Any, _: set[str]) -> Iterator[State]:
    """As many patches of each picture, and the shapes they had."""
    import torch

    patch, channels = _sizes(module)
    yield {
        "pixel_values": random(2, COUNT, channels * patch * patch),
        "spatial_shapes": torch.tensor(GRIDS),
        "pixel_attention_mask": torch.ones(2, COUNT, dtype=torch.long),
    }


def _strips(module: Any, _: set[str]) -> Iterator[State]:
    """Patches of both pictures side by side, as one picture a patch high."""
    import torch

    patch, channels = _sizes(module)
    yield {
        "pixel_values": random(1, channels, patch, patch * 2 * COUNT),
        "target_sizes": torch.tensor(GRIDS, dtype=torch.int32),
    }


def _places(module: Any, _: set[str]) -> Iterator[State]:
    """As many patches of each picture, and where each stood: column, row."""
    import torch

    patch, channels = _sizes(module)
    merge = first(tower_of(module.config), ("pooling_kernel_size",), 1)
    rows = cols = 2 * merge if merge > 1 else 4
    places = [(x, y) for y in range(rows) for x in range(cols)]
    wide = first(tower_of(module.config), ("model_patch_size",), patch)
    yield {
        "pixel_values": random(2, rows * cols, channels * wide * wide).sigmoid(),
        "image_position_ids": torch.tensor([places] * 2),
    }


def _pooled(module: Any, _: set[str]) -> Iterator[State]:
    """One crop of each picture, and which patches each token is made of."""
    import torch

    height, width = _height_and_width(module)
    patch, channels = _sizes(module)
    rows, cols = height // patch, width // patch
    cells = torch.arange(2 * rows * cols).view(2, rows // 2, 2, cols // 2, 2)
    yield {
        "pixel_values": random(2, rows * cols, channels * patch * patch),
        "image_token_pooling": cells.permute(0, 1, 3, 2, 4).reshape(-1, 4),
        "image_grids": torch.tensor([[rows // 2, cols // 2, 0, 0]] * 2),
        "image_num_crops": torch.tensor([1, 1]),
    }


def _tiles_and_ratios(module: Any, _: set[str]) -> Iterator[State]:
    """One tile of each picture, in frames of as many as there may be."""
    import torch

    height, width = _height_and_width(module)
    tiles = tower_of(module.config).max_num_tiles
    pixels = torch.zeros(2, 1, tiles, 3, height, width)
    pixels[:, :, 0] = random(2, 1, 3, height, width)
    shown = torch.zeros(2, 1, tiles, dtype=torch.long)
    shown[:, :, 0] = 1
    yield {
        "pixel_values": pixels,
        "aspect_ratio_ids": torch.ones(2, 1, dtype=torch.long),
        "aspect_ratio_mask": shown,
    }


def _framed(module: Any, _: set[str]) -> Iterator[State]:
    """One picture of each prompt, in a row of pictures."""
    height, width = _height_and_width(module)
    channels = _sizes(module)[1]
    yield {"pixel_values": random(2, 1, channels, height, width)}


def _flattened(module: Any, _: set[str]) -> Iterator[State]:
    """Patches of each picture in a row, each behind its row and column."""
    import torch

    wide = tower_of(module.config).patch_embed_hidden_size
    places = [[(y + 1, x + 1) for y in range(4) for x in range(4)]] * 2
    patches = random(2, 16, wide)
    yield {"flattened_patches": torch.cat([torch.tensor(places), patches], dim=-1)}


def _squares(module: Any, taken: set[str]) -> Iterator[State]:
    """Two pictures of the size that the tower was made for."""
    import torch

    height, width = _height_and_width(module)
    _, channels = _sizes(module)
    shape = (channels, height, width)
    sizes = torch.tensor([[height, width]] * 2)
    points = getattr(module.config, "image_grid_pinpoints", None)
    if "image_sizes" in taken and points:
        # the picture fills the first of its grids of tiles, and is one more as a whole
        point = points[0]
        tiles = (point[0] // height) * (point[1] // width) + 1
        yield {
            "pixel_values": random(2, tiles, *shape),
            "image_sizes": torch.tensor([point] * 2),
        }
    if "image_sizes" in taken:
        yield {"pixel_values": random(2, *shape), "image_sizes": sizes}
    if "high_res_pixel_values" in taken:
        fine = one(module.config.high_res_vision_config.image_size)
        yield {
            "pixel_values": random(2, *shape),
            "high_res_pixel_values": random(2, channels, fine, fine),
        }
    if "pixel_attention_mask" in taken:
        yield {
            "pixel_values": random(2, 1, *shape),
            "pixel_attention_mask": torch.ones(2, 1, dtype=torch.bool),
        }
    if not reads_films(module.config):
        yield {"pixel_values": random(2, *shape)}
    # one picture of each prompt, or one frame of each film
    yield {"pixel_values": random(2, 1, *shape)}
    # patches of both in a row, or patches through time
    patch, channels = _sizes(module)
    frames = first(tower_of(module.config), FRAMES, 1)
    yield {"pixel_values": random(2, 16, channels * patch * patch)}
    yield {"pixel_values": random(16, frames, patch, patch, channels)}


def _height_and_width(module: Any) -> tuple[int, int]:
    tower = tower_of(module.config)
    patch, _ = _sizes(module)
    # stages of a tower see ever fewer patches: several are left for the last one
    strides = first(tower, ("patch_stride",), 1)
    least = prod(strides) if isinstance(strides, list | tuple) else patch
    size = first(tower, ("image_size", "resolution"), max(patch, least) * SIDE)
    return tuple(size) if isinstance(size, list | tuple) else (size, size)


# the argument that tells a layout, before those that others have as well
LAYOUTS: dict[str, Callable[[Any, set[str]], Iterator[State]]] = {
    "image_grid_thw": _grids,
    "image_grid_hw": _flat_grids,
    "spatial_shapes": _shapes,
    "target_sizes": _strips,
    "image_position_ids": _places,
    "image_token_pooling": _pooled,
    "aspect_ratio_ids": _tiles_and_ratios,
    "flattened_patches": _flattened,
    "image_attention_mask": _framed,
    "pixel_values": _squares,
}
