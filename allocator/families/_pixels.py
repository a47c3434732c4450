"""Pixels by picture: made once for all batches that show it, as far as they fit."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.families._pictures import read_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from allocator.core.recurring import Recurring

# bytes of pixels that are kept
PIXEL_BYTES = 2**29
# of a picture that is not read yet: its file, and whether it is turned upright
SHOWN = "shown"


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
        found = [made[key] for key in keys]
        return BatchFeature({k: joined([each[k] for each in found]) for k in found[0]})


def parted(made: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """What was made of some pictures of one size: of each the same number of rows."""
    import torch

    def part(value: Any, number: int) -> Any:
        rows = len(value) // count
        own = value[number * rows : (number + 1) * rows]
        # not a view, which would keep all of it
        return own.clone() if isinstance(own, torch.Tensor) else own

    return [{k: part(v, n) for k, v in made.items()} for n in range(count)]


def joined(values: Sequence[Any]) -> Any:
    """Values of one picture each behind one another: [pictures or pieces, ...].

    >>> joined([[1], [2, 3]])
    [1, 2, 3]
    """
    import torch

    if not isinstance(values[0], torch.Tensor):
        return [each for value in values for each in value]
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
