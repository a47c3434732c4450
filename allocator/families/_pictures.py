"""Read a picture as eight bits of red, green and blue, whatever its file holds."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError, first_line
from allocator.families._together import Together

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BYTE, WORD = 255, 65535
# of a range that is guessed, the part in which the lightest grey has to be
LIGHTEST = 1 / 8
# formats that widen 16 bits of grey to mode "I" (Pillow's PNG did so before 10.3)
WIDENED = ("PNG", "PPM")
# TIFF's tags, and a photometric interpretation in which zero is white
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
# bytes of compressed text or of a colour profile in a PNG; its pixels do without them
LONGEST_CHUNK = 2**26
STDERR = 2

# without a handler of its own, its remarks would reach the user's screen
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_image(file: Path, *, upright: bool = False) -> Any:
    """A picture in RGB, eight bits each: the first frame or page.

    Colours are converted as Pillow's `convert("RGB")` does, as in the published
    evaluations: transparency is dropped, not laid onto a background. Grey of more than
    eight bits, which Pillow would clip, is scaled: the full range of 16 bits (of 12, in
    a TIFF that says so) becomes 0 to 255. Where a file does not say its range, the
    values do: floats are within 0 to 1, or within 0 to 255, or 0 to 65535, whole
    numbers of 32 bits within one of the last two. A picture whose lightest grey is
    below an eighth of 255 or 65535 is refused: it may be of yet another range.

    Args:
        file: anything that Pillow reads, of up to 178,956,970 pixels.
        upright: turn it as its EXIF orientation says. The official loaders of VQAv2,
            GQA, COCO and Flickr30k do not (LAVIS and LLaVA: `convert("RGB")` alone).

    Raises:
        DataError: names the file, and why it cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with UNDISTURBED(), Image.open(file) as image:
            deep = _depth(image)
            with MUTED() if image.format == "TIFF" else nullcontext():
                image.load()
            turned = ImageOps.exif_transpose(image) if upright else image
            return (_scaled(turned, *deep) if deep else turned).convert("RGB")
    except Exception as error:
        # what a broken file raises depends on its format and on where it is broken
        raise DataError(
            f"{file} cannot be read as a picture: {_reason(error)}"
        ) from None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Neither warnings nor much beside the pixels get in the way of a picture."""
    from PIL import PngImagePlugin

    longest = PngImagePlugin.MAX_TEXT_CHUNK
    PngImagePlugin.MAX_TEXT_CHUNK = LONGEST_CHUNK
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        PngImagePlugin.MAX_TEXT_CHUNK = longest


@contextmanager
def _muted() -> Iterator[None]:
    """Keep off the screen what libtiff tells of a file, a line for each row at worst.

    It writes to the stderr of the process, which Python's does not control.
    """
    with open(os.devnull, "w") as nowhere:
        kept = os.dup(STDERR)
        try:
            os.dup2(nowhere.fileno(), STDERR)
            yield
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)


# threads that read pictures are in them together
UNDISTURBED, MUTED = Together(_undisturbed), Together(_muted)


def _depth(image: Any) -> tuple[tuple[int, ...], bool] | None:
    """Values that may be the greatest, and whether zero is white; None for 8 bits."""
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
        # Pillow inverts what has 8 bits by itself
        return (2**bits - 1,), tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
    if image.mode == "I":
        return (WORD,) if image.format in WIDENED else (BYTE, WORD), False
    return ((1, BYTE, WORD), False) if image.mode == "F" else None


def _scaled(image: Any, tops: tuple[int, ...], inverted: bool) -> Any:
    """Grey of eight bits: the least of `tops` that no value is above becomes white."""
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.float32)
    low, high = float(values.min()), float(values.max())
    # nothing is within them that is no number
    top = next((top for top in tops if low >= 0 and high <= top), 0)
    told = len(tops) == 1 or top == 1 or high == 0 or high >= LIGHTEST * top
    if not (top and told):
        raise ValueError(
            f"its grey values go from {low:g} to {high:g}, which does not say what is "
            f"white ({', '.join(map(str, tops))}): save it in 8 or 16 bits"
        )
    values *= BYTE / top
    if inverted:
        values = BYTE - values
    return Image.fromarray(np.rint(values).astype(np.uint8))


def _reason(error: Exception) -> str:
    """What was wrong, in the words of whoever found it."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "it is damaged, or of a format that Pillow does not know"
    if isinstance(error, MemoryError):
        return "there is too little memory for it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error) or type(error).__name__
