"""Read a picture as eight bits of red, green and blue, whatever its file holds."""

from __future__ import annotations

import logging
import os
import re
import warnings
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError, first_line
from allocator.core.waiting import answered
from allocator.families._together import Together

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

BYTE, WORD = 255, 65535
# of a range that is guessed, the part in which the lightest grey has to be
LIGHTEST = 1 / 8
# formats that widen 16 bits of grey to mode "I" (Pillow's PNG did so before 10.3)
WIDENED = ("PNG", "PPM")
# TIFF's tags, and a photometric interpretation in which zero is white
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
# Pixels from which a picture is seen at half its size: a quarter of them are as many as
# any known processor takes (Qwen3-VL's `longest_edge`: 16,777,216), and all of them
# would be several GB on their way through it.
LARGE = 2**26
# pixels that are converted at once
BAND = 2**22
# how many times as long as wide a picture may be: Qwen2-VL's processor takes no others,
# and CLIP's would make thousands of megapixels of one pixel's width
LONGEST = 200
# PNG's grey of few bits, and what Pillow multiplies it by
FEW_BITS = {"L;2": 85, "L;4": 17}
# what often goes by a picture's name, and how it begins
FOREIGN = (
    ("a PDF document", re.compile(rb"%PDF")),
    ("a HEIC photograph", re.compile(rb".{4}ftyp(he|mif1|msf1)", re.S)),
    ("an SVG drawing", re.compile(rb"\s*<(\?xml.*<)?svg", re.S)),
    ("a web page", re.compile(rb"\s*<(!doctype )?html", re.I)),
    ("a pointer to a file that Git LFS keeps", re.compile(rb"version https://git-lfs")),
)
# EXIF's tag, and what undoes each way to store a picture that it knows, from 2 on
ORIENTATION = 0x112
TURNED = (
    *("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM"),
    *("TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"),
)
# bytes of compressed text or of a colour profile in a PNG; its pixels do without them
LONGEST_CHUNK = 2**26
STDERR = 2
# bytes that tell what a file is
HEAD = 1024

# without a handler of its own, its remarks would reach the user's screen
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_image(file: Path, *, upright: bool = False) -> Any:
    """A picture in RGB, eight bits each: the first frame or page.

    Colours are converted as Pillow's `convert("RGB")` does, as in the published
    evaluations; colour profiles are left alone. Grey of more than eight bits, which
    Pillow would clip, is scaled: the full range of 16 bits (of 12, in a TIFF that says
    so) becomes 0 to 255. Where a file does not say its range, the values do: floats are
    within 0 to 1, or within 0 to 255, or 0 to 65535, whole numbers of 32 bits within
    one of the last two. A picture whose lightest grey is below an eighth of 255 or
    65535 is refused: it may be of yet another range.

    Args:
        file: anything that Pillow reads, of up to 178,956,970 pixels.
        upright: read it as people see it: turned as its EXIF orientation says, and
            laid on white where it is transparent. One of 67,108,864 pixels and more is
            halved on the way, and none may be more than 200 times as long as wide. The
            official loaders of VQAv2, GQA, COCO and Flickr30k do none of this (LAVIS
            and LLaVA: `convert("RGB")` alone, which drops transparency).

    Raises:
        DataError: names the file, and why it cannot be read.
    """
    return answered(file, lambda _: _read(file, upright))


def _read(file: Path, upright: bool) -> Any:
    from PIL import Image

    try:
        # a file that never answers must not hold up what threads are in together
        with file.open("rb") as opened:
            opened.read(1)
        with UNDISTURBED(), Image.open(file) as image:
            deep = _depth(image)
            if upright:
                _check_shape(image)
                _keep_key(image)
                if _halved(image):
                    # a JPEG is decoded at half its size, others do not listen
                    image.draft(image.mode, (image.width // 2, image.height // 2))
            with MUTED() if image.format == "TIFF" else nullcontext():
                image.load()
            if upright:
                return _turned(_on_white(image, deep), _orientation(image))
            return (_scaled(image, *deep) if deep else image).convert("RGB")
    except Exception as error:
        # what a broken file raises depends on its format and on where it is broken
        raise DataError(
            f"{file} cannot be read as a picture: {_reason(error, file)}"
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
    return _grey(image, _white([image], tops), inverted)


def _white(parts: Iterable[Any], tops: tuple[int, ...]) -> int:
    """The least of `tops` that no value of a picture is above."""
    import numpy as np

    found = [(values.min(), values.max()) for values in map(np.asarray, parts)]
    # nothing is within them that is no number
    low, high = (float(each) for each in (np.min(found), np.max(found)))
    top = next((top for top in tops if low >= 0 and high <= top), 0)
    told = len(tops) == 1 or top == 1 or high == 0 or high >= LIGHTEST * top
    if not (top and told):
        raise ValueError(
            f"its grey values go from {low:g} to {high:g}, which does not say what is "
            f"white ({', '.join(map(str, tops))}): save it in 8 or 16 bits"
        )
    return top


def _grey(image: Any, top: int, inverted: bool) -> Any:
    import numpy as np
    from PIL import Image

    values = np.asarray(image).astype(np.float32)
    values *= BYTE / top
    if inverted:
        values = BYTE - values
    return Image.fromarray(np.rint(values).astype(np.uint8))


def _check_shape(image: Any) -> None:
    short, long = sorted(image.size)
    if long > LONGEST * short:
        raise ValueError(
            f"its {image.width} x {image.height} pixels are more than {LONGEST} times "
            "as long as wide"
        )


def _keep_key(image: Any) -> None:
    """Let a PNG's transparent colour be that of the pixels that Pillow makes of it."""
    key, raw = image.info.get("transparency"), image.tile and image.tile[0][3]
    if image.format == "PNG" and isinstance(key, int) and raw in FEW_BITS:
        image.info["transparency"] = key * FEW_BITS[raw]
    if image.format == "PNG" and raw == "RGB;16B" and key:
        image.info["transparency"] = tuple(each >> 8 for each in key)


def _halved(image: Any) -> bool:
    return bool(image.width * image.height >= LARGE)


def _on_white(image: Any, deep: tuple[tuple[int, ...], bool] | None) -> Any:
    """A picture in RGB, on white, halved if it is large; band by band."""
    from PIL import Image

    step = 2 if _halved(image) else 1
    rows = max(1, BAND // image.width // step) * step
    tops = range(0, image.height, rows)

    def band(top: int) -> Any:
        return image.crop((0, top, image.width, min(top + rows, image.height)))

    white = _white(map(band, tops), deep[0]) if deep else 0
    made = Image.new("RGB", tuple(-(-n // step) for n in image.size))
    for top in tops:
        part = band(top)
        flat = _grey_on_white(part, white, deep[1]) if deep else _flat(part)
        made.paste(flat.reduce(step), (0, top // step))
    return made


def _flat(image: Any) -> Any:
    from PIL import Image

    clear = image.mode == "P" or "transparency" in image.info
    if not clear and not image.mode.endswith(("A", "a")):
        return image.convert("RGB")
    colours = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, colours).convert("RGB")


def _orientation(image: Any) -> int:
    """EXIF's number of how a picture is stored; 1 where none can be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:
        # as for a picture, but nothing of it is lost here
        return 1


def _turned(image: Any, orientation: int) -> Any:
    from PIL import Image

    turns = dict(enumerate(TURNED, 2))
    if orientation not in turns:
        return image
    return image.transpose(Image.Transpose[turns[orientation]])


def _grey_on_white(image: Any, top: int, inverted: bool) -> Any:
    """Grey of eight bits, white where a PNG's is transparent."""
    import numpy as np
    from PIL import Image

    grey = _grey(image, top, inverted)
    if (key := image.info.get("transparency")) is None:
        return grey.convert("RGB")
    clear = np.asarray(image) == key
    return Image.fromarray(np.where(clear, np.uint8(BYTE), grey)).convert("RGB")


def _reason(error: Exception, file: Path) -> str:
    """What was wrong, in the words of whoever found it."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return _foreign(file)
    if isinstance(error, MemoryError):
        return "there is too little memory for it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error) or type(error).__name__


def _foreign(file: Path) -> str:
    """What a file is that Pillow does not know."""
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD)
    except OSError:
        head = b"?"
    if not head:
        return "it is empty"
    for name, beginning in FOREIGN:
        if beginning.match(head):
            return f"it is {name}: give PNG, JPEG or WebP"
    return "it is damaged, or of a format that Pillow does not know"
