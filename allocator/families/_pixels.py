"""Pixels by picture: made once for all batches that show it, as far as they fit."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.families._pictures import read_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
    """An image processor that is given one picture at a time.

    What it makes of several is the same, one behind the other, and zeros where some
    have fewer tiles or rows than others.
    """

    usual: Any
    kept: Recurring

    def __getattr__(self, name: str) -> Any:
        return getattr(self.usual, name)

    def __call__(self, images: Any, **settings: Any) -> Any:
        from transformers import BatchFeature

        made = [self._made(image, settings) for image in images]
        found = {key: joined([each[key] for each in made]) for key in made[0]}
        return BatchFeature(found)

    def _made(self, given: Any, settings: dict[str, Any]) -> dict[str, Any]:
        """What is made of a picture, which may be in a list of its own."""
        image = given[0] if isinstance(given, list | tuple) else given
        key = getattr(image, SHOWN)
        found: dict[str, Any] | None = self.kept.get(key)
        if found is None:
            read = read_image(key[0], upright=key[1])
            own = [read] if image is not given else read
            found = dict(self.usual([own], **settings))
            size = sum(getattr(value, "nbytes", 0) for value in found.values())
            self.kept.put(key, size, found)
        return found


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
