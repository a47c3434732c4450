"""Pictures of one's own, as people see them: turned, on white, halved where large."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from allocator.core.errors import DataError
from allocator.families import _pictures
from allocator.families._pictures import read_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

ORIENTATION = 0x112
RED, WHITE = [255, 0, 0], [255, 255, 255]
# half of 255, nearly: opaque to 128 parts in 255
HALF = 128
# red times 128/255, white times 127/255
PINK = [255, 127, 127]
# where row 0 and column 0 of what is stored are in what is seen (Exif 2.3, 4.6.4)
SIDES = {
    **{1: ("top", "left"), 2: ("top", "right")},
    **{3: ("bottom", "right"), 4: ("bottom", "left")},
    **{5: ("left", "top"), 6: ("right", "top")},
    **{7: ("right", "bottom"), 8: ("left", "bottom")},
}


def values(file: Path) -> NDArray[Any]:
    """Pixels [height, width, 3] as they are seen."""
    image = read_image(file, upright=True)
    assert image.mode == "RGB"
    return np.asarray(image)


def pixels(file: Path) -> Any:
    return values(file).tolist()


def stored(seen: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rows and columns as a camera stores them that writes this number."""
    height, width = seen.shape[:2]
    rows, columns = SIDES[orientation]
    turned = rows in ("left", "right")
    shape = (width, height) if turned else (height, width)
    made = np.zeros((*shape, *seen.shape[2:]), seen.dtype)

    def along(side: str, place: int) -> int:
        length = height if side in ("top", "bottom") else width
        return place if side in ("top", "left") else length - 1 - place

    for row in range(shape[0]):
        for column in range(shape[1]):
            y, x = along(rows, row), along(columns, column)
            made[row, column] = seen[(x, y) if turned else (y, x)]
    return made


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_each_of_eight_ways_to_hold_a_camera_is_undone(
    form: str, orientation: int, tmp_path: Path
) -> None:
    # a grey of its own for each of six blocks, which JPEG leaves about as they are
    blocks = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
    seen = np.repeat(np.repeat(blocks, 16, 0), 16, 1)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    more = {"lossless": True} if form == "WEBP" else {}
    held = Image.fromarray(stored(seen, orientation)).convert("RGB")
    held.save(tmp_path / "held", form, exif=exif, **more)
    found = values(tmp_path / "held")
    assert found.shape == (*seen.shape, 3)
    assert np.abs(found[8::16, 8::16, 0].astype(int) - blocks).max() < 10


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0nonsense",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        # one entry: orientation 9, of which there is none; then text in its place
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0" + bytes(4),
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0A\0\0\0" + bytes(4),
    ],
    ids=["nonsense", "nowhere", "ninth", "letter"],
)
def test_a_broken_exif_turns_nothing_and_loses_nothing(
    form: str, exif: bytes, tmp_path: Path
) -> None:
    Image.new("RGB", (16, 8), "white").save(tmp_path / "held", form, exif=exif)
    assert values(tmp_path / "held").shape == (8, 16, 3)
    assert values(tmp_path / "held").min() >= 250


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_what_is_transparent_lies_on_white(form: str, tmp_path: Path) -> None:
    held = Image.new("RGBA", (3, 1), (255, 0, 0, 255))
    held.putpixel((1, 0), (255, 0, 0, HALF))
    held.putpixel((2, 0), (0, 0, 0, 0))
    more = {"lossless": True} if form == "WEBP" else {}
    held.save(tmp_path / "clear", form, **more)
    assert pixels(tmp_path / "clear") == [[RED, PINK, WHITE]]


def test_grey_and_palettes_may_be_transparent_too(tmp_path: Path) -> None:
    Image.new("LA", (1, 1), (0, HALF)).save(tmp_path / "grey.png")
    assert pixels(tmp_path / "grey.png") == [[[127] * 3]]
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255, 255, 0, 0])
    palette.putdata([0, 1, 2])
    palette.save(tmp_path / "palette.png", transparency=b"\x80\x00")
    assert pixels(tmp_path / "palette.png") == [[PINK, WHITE, RED]]
    palette.save(tmp_path / "one.gif", transparency=1)
    assert pixels(tmp_path / "one.gif") == [[RED, WHITE, RED]]
    palette.save(tmp_path / "none.png")
    assert pixels(tmp_path / "none.png") == [[RED, [0, 0, 255], RED]]


def chunk(kind: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + check


def png(
    width: int, depth: int, kind: int, row: bytes, key: Sequence[int] = ()
) -> bytes:
    """A PNG of one row, with one colour that is transparent."""
    header = struct.pack(">IIBBBBB", width, 1, depth, kind, 0, 0, 0)
    clear = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    body = chunk(b"IDAT", zlib.compress(b"\0" + row))
    mark = b"\x89PNG\r\n\x1a\n"
    return mark + chunk(b"IHDR", header) + clear + body + chunk(b"IEND", b"")


# kinds of PNG (RFC 2083, 4.1.1): 0 is grey, 2 red, green and blue; alpha adds 4
@pytest.mark.parametrize(
    ("depth", "kind", "row", "key", "wanted"),
    [
        # greys 0 to 3 of two bits, of which 1 is transparent; 1 and 15 of four
        (2, 0, b"\x1b", [1], [0, 255, 170, 255]),
        (4, 0, b"\x1f\x1f", [1], [255, 255, 255, 255]),
        (4, 0, b"\x1f\x1f", [15], [17, 255, 17, 255]),
        (1, 0, b"\x50", [0], [255, 255, 255, 255]),
        (1, 0, b"\x50", [], [0, 255, 0, 255]),
        (8, 0, b"\0\1\2\3", [2], [0, 1, 255, 3]),
        (16, 0, struct.pack(">4H", 0, 257, 258, 514), [258], [0, 1, 255, 2]),
        (16, 4, struct.pack(">8H", *[0, 65535, 0, 0] * 2), [], [0, 255, 0, 255]),
    ],
)
def test_one_grey_of_a_png_may_be_transparent(
    depth: int, kind: int, row: bytes, key: list[int], wanted: list[int], tmp_path: Path
) -> None:
    (tmp_path / "clear.png").write_bytes(png(4, depth, kind, row, key))
    assert pixels(tmp_path / "clear.png") == [[[grey] * 3 for grey in wanted]]


def test_sixteen_bits_of_colour_become_eight(tmp_path: Path) -> None:
    row = struct.pack(">6H", 65535, 0, 257, 0, 65535, 0)
    (tmp_path / "deep.png").write_bytes(png(2, 16, 2, row))
    assert pixels(tmp_path / "deep.png") == [[[255, 0, 1], [0, 255, 0]]]
    (tmp_path / "deep.png").write_bytes(png(2, 16, 2, row, [0, 65535, 0]))
    assert pixels(tmp_path / "deep.png") == [[[255, 0, 1], WHITE]]
    row = struct.pack(">8H", 65535, 0, 0, HALF * 257, 0, 0, 0, 0)
    (tmp_path / "deep.png").write_bytes(png(2, 16, 6, row))
    assert pixels(tmp_path / "deep.png") == [[PINK, WHITE]]


def test_ink_is_turned_into_light(tmp_path: Path) -> None:
    def near(file: Path, wanted: list[int]) -> bool:
        return bool(np.abs(values(file).astype(int) - wanted).max() <= 3)

    # light is what no ink and no black takes away: 255 - 200, and half of that
    ink = Image.new("CMYK", (16, 16), (200, 127, 0, 0))
    ink.save(tmp_path / "ink.jpg", quality=100)
    assert near(tmp_path / "ink.jpg", [55, 128, 255])
    Image.new("CMYK", (16, 16), (200, 127, 0, 127)).save(tmp_path / "ink.tif")
    assert near(tmp_path / "ink.tif", [28, 64, 128])
    # Adobe's marker says YCCK where its last byte is 2. What is stored is inverted: a
    # brightness of 55 without colour, which is ink of 200, inverted like the black
    Image.new("CMYK", (16, 16), (200, 127, 127, 0)).save(
        tmp_path / "ycck.jpg", quality=100
    )
    data = bytearray((tmp_path / "ycck.jpg").read_bytes())
    marker = data.index(b"Adobe") + 11
    assert data[marker] == 0
    data[marker] = 2
    (tmp_path / "ycck.jpg").write_bytes(data)
    assert near(tmp_path / "ycck.jpg", [200, 200, 200])


def test_lightness_is_turned_into_light(tmp_path: Path) -> None:
    # all of it without colour, for which Pillow has 128; none of it
    for light, wanted in ((255, 255), (0, 0)):
        Image.new("LAB", (4, 4), (light, 128, 128)).save(tmp_path / "lab.tif")
        assert np.abs(values(tmp_path / "lab.tif").astype(int) - wanted).max() <= 3


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_seen_even_where_it_is_clear(
    form: str, tmp_path: Path
) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.putpixel((0, 0), (255, 0, 0, 255))
    # a file whose last frame is opaque would not say that others are not
    black = Image.new("RGBA", (8, 8), (0, 0, 0, 200))
    more: dict[str, Any] = {"lossless": True} if form == "WEBP" else {}
    clear.save(tmp_path / "many", form, save_all=True, append_images=[black], **more)
    with Image.open(tmp_path / "many") as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]
    found = pixels(tmp_path / "many")
    assert found[0][0] == RED
    assert found[0][1] == found[7][7] == WHITE


@pytest.mark.parametrize("form", ["TIFF", "MPO"])
def test_of_pages_and_views_the_first_is_seen(form: str, tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (16, 8), each) for each in ("white", "black"))
    first.save(tmp_path / "many", form, save_all=True, append_images=[second])
    assert values(tmp_path / "many").min() >= 250


def test_a_name_that_lies_and_a_profile_change_nothing(tmp_path: Path) -> None:
    held = Image.new("RGB", (2, 2), (10, 20, 30))
    held.save(tmp_path / "photo.jpg", "PNG", icc_profile=b"of another screen")
    assert pixels(tmp_path / "photo.jpg") == [[[10, 20, 30]] * 2] * 2


def test_a_picture_may_be_one_pixel_wide_but_not_a_thread(tmp_path: Path) -> None:
    for size in ((1, 1), (1, 200), (200, 1)):
        Image.new("RGB", size).save(tmp_path / "thin.png")
        assert read_image(tmp_path / "thin.png", upright=True).size == size
    for size in ((1, 201), (402, 2), (2, 401)):
        Image.new("RGB", size).save(tmp_path / "thread.png")
        with pytest.raises(
            DataError, match=rf"thread\.png .* {size[0]} x {size[1]} pixels .*than 200"
        ):
            read_image(tmp_path / "thread.png", upright=True)
        # where it is read as it is published, its processor decides
        assert read_image(tmp_path / "thread.png").size == size


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pictures of 24 pixels be large, and be converted two rows at a time."""
    monkeypatch.setattr(_pictures, "LARGE", 24)
    monkeypatch.setattr(_pictures, "BAND", 12)


@pytest.mark.usefixtures("_small")
def test_a_large_picture_is_halved_by_means_of_four_pixels(tmp_path: Path) -> None:
    grey = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    Image.fromarray(grey).save(tmp_path / "large.png")
    # the first is the mean of 0, 10, 60 and 70
    wanted = [[35, 55, 75], [155, 175, 195]]
    assert values(tmp_path / "large.png")[..., 0].tolist() == wanted
    # as is one of sixteen bits
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert values(tmp_path / "deep.png")[..., 0].tolist() == wanted
    # what is left over at the edges is a mean of fewer
    Image.fromarray(np.vstack([grey, grey[:1]])).save(tmp_path / "odd.png")
    assert values(tmp_path / "odd.png")[..., 0].tolist() == [*wanted, [5, 25, 45]]
    # none is where that is not asked for
    assert read_image(tmp_path / "large.png").size == (6, 4)


@pytest.mark.usefixtures("_small")
def test_what_is_clear_and_large_does_not_show_its_colour(tmp_path: Path) -> None:
    held = Image.new("RGBA", (6, 4), (255, 0, 0, 0))
    held.putpixel((0, 0), (0, 0, 0, 255))
    held.save(tmp_path / "large.png")
    # three white pixels and a black one: 3 * 255 / 4 = 191.25
    assert pixels(tmp_path / "large.png") == [[[191] * 3, WHITE, WHITE], [WHITE] * 3]


def test_a_large_jpeg_is_halved_while_it_is_read_and_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_pictures, "LARGE", 64 * 32)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    slope = np.arange(0, 256, 4, dtype=np.uint8)
    held = Image.fromarray(np.tile(slope, (32, 1)))
    for mode in ("L", "RGB", "CMYK"):
        held.convert(mode).save(
            tmp_path / "large.jpg", exif=exif, quality=95, progressive=mode == "RGB"
        )
        # seen, its left is at the top
        found = values(tmp_path / "large.jpg")[..., 0].astype(int)
        assert found.shape == (32, 16)
        assert np.abs(found - slope.reshape(32, 2).mean(1)[:, None]).max() <= 4


def test_bands_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(256, size=(37, 11, 4), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    whole = values(tmp_path / "noise.png")
    deep = (noise[..., 0] / np.float32(255)).astype(np.float32)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    grey = values(tmp_path / "deep.tif")
    np.testing.assert_array_equal(grey[..., 0], noise[..., 0])
    for band in (1, 11, 70):
        monkeypatch.setattr(_pictures, "BAND", band)
        np.testing.assert_array_equal(values(tmp_path / "noise.png"), whole)
        np.testing.assert_array_equal(values(tmp_path / "deep.tif"), grey)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"%PDF-1.7\n", "it is a PDF document: give PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it is a HEIC photograph"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "it is an SVG drawing"),
        (b'<?xml version="1.0"?>\n<!-- by hand -->\n<svg/>', "it is an SVG drawing"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "it is a web page"),
        (b"a photograph", "it is damaged, or of a format"),
    ],
)
def test_what_is_no_picture_is_told_what_it_is(
    content: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    for upright in (False, True):
        with pytest.raises(DataError, match=rf"photo\.jpg cannot be read .*: .*{said}"):
            read_image(tmp_path / "photo.jpg", upright=upright)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF"])
def test_half_of_a_file_is_no_picture(form: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    kept = io.BytesIO()
    Image.fromarray(noise).save(kept, form)
    whole = kept.getvalue()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"half cannot be read as a picture: \w"):
        read_image(tmp_path / "half", upright=True)
