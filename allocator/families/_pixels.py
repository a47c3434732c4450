"""Pixels by picture: made once for all batches that show it, as far as they fit."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families._pictures import read_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from allocator.core.recurring import Recurring

# bytes of pixels that are kept
PIXEL_BYTES = 2**29
# of a picture that is not read yet: its file, and whether it is turned upright
SHOWN = "shown"
PIXELS = "pixel_values"
# sizes in patches of pictures whose patches stand in one row, on the last axis
PACKED = "target_sizes"
# numbers of patches among those of all pictures; below 0 stands for none
POOLED = "image_token_pooling"


def shown(file: Path, *, upright: bool) -> Any:
    """Stands for a picture that is read when its pixels are wanted, if they are."""
    from PIL import Image

    image = Image.new("RGB", (1, 1))
    setattr(image, SHOWN, (file, upright))
    return image


@contextmanager
def by_picture(processor: Any, kept: Recurring) -> Iterator[None]:
    """Let a processor take what `shown` gives for pictures."""
    usual = processor.image_processor
    processor.image_processor = _ByPicture(usual, kept)
    try:
        yield
    finally:
        processor.image_processor = usual


@dataclass(frozen=True)
class _ByPicture:
    """An image processor whose outcome is kept by picture.

    What it makes of several is the same, one behind the other, and zeros where some
    have fewer tiles or rows than others.
    """

    usual: Any
    kept: Recurring

    def __getattr__(self, name: str) -> Any:
        return getattr(self.usual, name)

    def __call__(self, images: Any, **settings: Any) -> Any:
        from transformers import BatchFeature

        nested = isinstance(images[0], list | tuple)
        keys = [getattr(x[0] if nested else x, SHOWN) for x in images]
        made = {key: self.kept.get(key) for key in dict.fromkeys(keys)}
        new: dict[Any, dict[Any, Any]] = {}
        for file, upright in (key for key, found in made.items() if found is None):
            image = read_image(file, upright=upright)
            new.setdefault(image.size, {})[file, upright] = image
        for alike in new.values():
            asked = [[image] if nested else image for image in alike.values()]
            whole = self.usual(asked, **settings)
            for key, own in zip(alike, parted(whole, len(alike)), strict=True):
                made[key] = own
                size = sum(getattr(value, "nbytes", 0) for value in own.values())
                self.kept.put(key, size, own)
        return BatchFeature(laid([made[key] for key in keys]))


def parted(made: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """What was made of some pictures of one size: of each the same number of rows.

    Raises:
        ModelError: of several pictures something was made that has no such rows.
    """
    import torch

    def part(key: str, value: Any, number: int) -> Any:
        is_tensor = isinstance(value, torch.Tensor)
        axis = _axis(key, made)
        rows, rest = divmod(value.shape[axis] if is_tensor else len(value), count)
        if rest:
            raise ModelError(
                f"the processor makes {rows * count + rest} rows of {key} of {count} "
                "pictures of one size: it is not known which are whose"
            )
        if not is_tensor:
            return value[number * rows : (number + 1) * rows]
        own = value.narrow(axis, number * rows, rows)
        # not a view, which would keep all of it
        own = own.clone(memory_format=torch.contiguous_format)
        return _moved_on(own, -number * patches) if key == POOLED else own

    patches = _patches(made) // count if POOLED in made else 0
    return [{k: part(k, v, n) for k, v in made.items()} for n in range(count)]


def laid(made: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was made of single pictures, one behind the other."""
    found = [dict(each) for each in made]
    if POOLED in found[0]:
        counts = accumulate(map(_patches, made), initial=0)
        for each, count in zip(found, counts, strict=False):
            each[POOLED] = _moved_on(each[POOLED], count)
    return {k: joined([x[k] for x in found], _axis(k, found[0])) for k in found[0]}


def _axis(key: str, made: Mapping[str, Any]) -> int:
    """On which pictures stand behind one another."""
    return -1 if key == PIXELS and PACKED in made else 0


def _patches(made: Mapping[str, Any]) -> int:
    """In all crops together: pixels are [crops, patches, values]."""
    crops, patches = made[PIXELS].shape[:2]
    return int(crops * patches)


def _moved_on(numbers: Any, count: int) -> Any:
    """Numbers of patches behind, or in front of, others."""
    return numbers.where(numbers < 0, numbers + count)


def joined(values: Sequence[Any], axis: int = 0) -> Any:
    """Values of one picture each behind one another: [pictures or pieces, ...].

    >>> joined([[1], [2, 3]])
    [1, 2, 3]
    """
    import torch

    if not isinstance(values[0], torch.Tensor):
        return [each for value in values for each in value]
    if axis:
        return torch.cat(list(values), axis)
    most = torch.tensor([value.shape[1:] for value in values]).amax(0).tolist()
    if all(list(value.shape[1:]) == most for value in values):
        return torch.cat(list(values))
    whole = values[0].new_zeros(sum(map(len, values)), *most)
    at = 0
    for value in values:
        place = (slice(at, at + len(value)), *(slice(n) for n in value.shape[1:]))
        whole[place] = value
        at += len(value)
    return whole
