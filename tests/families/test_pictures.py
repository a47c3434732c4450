from __future__ import annotations

import io
import os
import random
import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from allocator.core.errors import DataError
from allocator.core.ports import Sample
from allocator.embedded import HERE
from allocator.families import family_of
from allocator.families._pictures import read_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# every grey of eight bits, in rows that differ
GREY = np.arange(256, dtype=np.uint8).reshape(8, 32)
ORIENTATION = 0x112


def values(file: Path, **how: bool) -> NDArray[Any]:
    """Pixels [height, width, 3] as they are read."""
    image = read_image(file, **how)
    assert image.mode == "RGB"
    return np.asarray(image)


def check_grey(file: Path, wanted: NDArray[Any] = GREY) -> None:
    np.testing.assert_array_equal(values(file), np.stack([wanted] * 3, axis=-1))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bits_of_grey_are_read_as_the_same_grey_of_eight(
    form: str, tmp_path: Path
) -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    deep.save(tmp_path / "deep", form)
    check_grey(tmp_path / "deep")


def test_grey_between_two_of_eight_bits_becomes_the_nearer_one(tmp_path: Path) -> None:
    between = np.array([[0, 128, 129, 385, 386, 65406, 65407, 65535]], np.uint16)
    Image.fromarray(between).save(tmp_path / "deep.png")
    check_grey(tmp_path / "deep.png", np.array([[0, 0, 1, 1, 2, 254, 255, 255]]))


def tiff(pixels: bytes, width: int, bits: int, photometric: int, order: str) -> bytes:
    """A TIFF of one row, without compression."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: photometric}
    tags |= {273: 8, 277: 1, 278: 1, 279: len(pixels)}
    rows = [
        struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", value)
        for tag, value in tags.items()
    ]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(rows)) + b"".join(rows) + bytes(4)
    return mark + struct.pack(f"{order}I", 8 + len(pixels)) + pixels + directory


def test_a_tiff_says_its_depth_its_order_and_what_is_white(tmp_path: Path) -> None:
    file = tmp_path / "deep.tif"
    row = np.array([0, 257, 65535])
    file.write_bytes(tiff(row.astype(">u2").tobytes(), 3, 16, 1, ">"))
    check_grey(file, np.array([[0, 1, 255]]))
    file.write_bytes(tiff(row.astype("<u2").tobytes(), 3, 16, 0, "<"))
    check_grey(file, np.array([[255, 254, 0]]))
    # two of twelve bits in three bytes: 0 and 4095
    file.write_bytes(tiff(b"\x00\x0f\xff", 2, 12, 1, "<"))
    check_grey(file, np.array([[0, 255]]))


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        (np.float32, [0.0, 0.2, 1.0], [0, 51, 255]),
        (np.float32, [0.0, 51.4, 255.0], [0, 51, 255]),
        (np.float32, [0.0, 0.004, 0.1], [0, 1, 26]),
        (np.float32, [0.0, 0.0, 0.0], [0, 0, 0]),
        (np.float32, [0.0, 257.0, 8224.0], [0, 1, 32]),
        (np.float32, [0.0, 13107.0, 65535.0], [0, 51, 255]),
        (np.int32, [0, 1, 255], [0, 1, 255]),
        (np.int32, [0, 257, 65535], [0, 1, 255]),
        (np.int32, [0, 0, 0], [0, 0, 0]),
    ],
)
def test_the_values_say_which_is_white_where_the_file_does_not(
    kind: type, given: list[float], wanted: list[int], tmp_path: Path
) -> None:
    Image.fromarray(np.array([given], kind)).save(tmp_path / "deep.tif")
    check_grey(tmp_path / "deep.tif", np.array([wanted]))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (np.float32, [-0.5, 1.0]),
        (np.float32, [0.0, float("nan")]),
        (np.float32, [0.0, float("inf")]),
        (np.float32, [0.0, 65536.0]),
        # a bright scene in linear light, a sensor of 12 bits, a mask
        (np.float32, [0.0, 3.7]),
        (np.float32, [0.0, 4095.0]),
        (np.int32, [0, 4095]),
        (np.int32, [0, 1]),
        (np.int32, [0, 2**31 - 1]),
        (np.int32, [-1, 255]),
    ],
)
def test_values_that_do_not_say_which_is_white_are_refused(
    kind: type, given: list[float], tmp_path: Path
) -> None:
    Image.fromarray(np.array([given], kind)).save(tmp_path / "deep.tif")
    with pytest.raises(DataError, match=r"deep\.tif .*grey values go from .* white"):
        read_image(tmp_path / "deep.tif")


def test_transparency_is_dropped_and_colours_stay(tmp_path: Path) -> None:
    colour = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    colour.save(tmp_path / "clear.png")
    assert values(tmp_path / "clear.png").tolist() == [[[10, 20, 30]] * 2]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    # one such byte for each colour makes Pillow warn
    palette.save(tmp_path / "palette.png", transparency=b"\x00\x80")
    assert values(tmp_path / "palette.png").tolist() == [[[10, 20, 30], [40, 50, 60]]]
    Image.new("LA", (1, 1), (7, 0)).save(tmp_path / "grey.png")
    assert values(tmp_path / "grey.png").tolist() == [[[7, 7, 7]]]
    Image.new("1", (1, 1), 1).save(tmp_path / "bit.png")
    assert values(tmp_path / "bit.png").tolist() == [[[255, 255, 255]]]
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "ink.jpg")
    assert values(tmp_path / "ink.jpg").min() >= 250


@pytest.mark.parametrize("form", ["GIF", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_read(form: str, tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (8, 8), each) for each in ("white", "black"))
    first.save(tmp_path / "many", form, save_all=True, append_images=[second])
    assert values(tmp_path / "many").min() >= 250


def test_a_picture_is_turned_as_its_exif_says_where_that_is_asked(
    tmp_path: Path,
) -> None:
    stored = np.zeros((16, 32, 3), np.uint8)
    # white at the left: seen upright, turned clockwise (6), it is at the top
    stored[:, :16] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for form in ("JPEG", "PNG"):
        Image.fromarray(stored).save(tmp_path / "held", form, exif=exif)
        for upright, shape in ((False, (16, 32, 3)), (True, (32, 16, 3))):
            seen = values(tmp_path / "held", upright=upright)
            assert seen.shape == shape
            white, black = np.split(seen, 2, axis=0 if upright else 1)
            assert white.min() > 200
            assert black.max() < 50


@pytest.mark.parametrize("name", ["tiny-llava", "tiny-blip2", "tiny-blip2/retrieval"])
def test_models_see_a_sample_upright_or_as_it_is_stored(
    name: str, tmp_path: Path
) -> None:
    exif, file = Image.Exif(), tmp_path / "held.png"
    exif[ORIENTATION] = 3
    half = np.zeros((64, 64, 3), np.uint8)
    half[:32] = 255
    Image.fromarray(half).save(file, exif=exif)
    model = family_of(HERE / name).load(HERE / name, "cpu")
    prompt = "match" if name.endswith("retrieval") else "vqa"
    sample = Sample("1", file, prompt, "what color is it?", ("red",))
    upright, stored = (
        model.inputs([replace(sample, upright=each)])["pixel_values"]
        for each in (True, False)
    )
    assert not upright.equal(stored)
    assert upright.flip(-1, -2).allclose(stored, atol=1e-4)


def test_what_libtiff_tells_of_a_file_does_not_reach_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8)
    Image.fromarray(noise).convert("1").save(tmp_path / "fax.tif", compression="group4")
    data = bytearray((tmp_path / "fax.tif").read_bytes())
    for at in range(60, 300, 9):
        data[at] ^= 0xFF
    (tmp_path / "fax.tif").write_bytes(data)
    with Image.open(tmp_path / "fax.tif") as image:
        image.load()
    assert "Fax4Decode" in capfd.readouterr().err
    read_image(tmp_path / "fax.tif")
    (tmp_path / "fax.tif").write_bytes(data[:200])
    with pytest.raises(DataError):
        read_image(tmp_path / "fax.tif")
    assert capfd.readouterr().err == ""
    # and is open again behind it
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def chunk(kind: bytes, body: bytes) -> bytes:
    size, check = (
        struct.pack(">I", len(body)),
        struct.pack(">I", zlib.crc32(kind + body)),
    )
    return size + kind + body + check


def png(kind: bytes, body: bytes, *, behind: bool = False) -> bytes:
    """A white PNG with one more chunk, before its pixels or behind them."""
    kept = io.BytesIO()
    Image.new("RGB", (4, 4), "white").save(kept, "PNG")
    data = kept.getvalue()
    # signature and header, or all but the chunk that ends the file
    at = len(data) - 12 if behind else 33
    return data[:at] + chunk(kind, body) + data[at:]


LONG = zlib.compress(b"a" * 3_000_000)


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"iCCP", b"profile\0\0" + LONG),
        (b"zTXt", b"Comment\0\0" + LONG),
        (b"iTXt", b"workflow\0\1\0\0\0" + LONG),
    ],
)
def test_megabytes_beside_the_pixels_do_not_matter(
    kind: bytes, body: bytes, behind: bool, tmp_path: Path
) -> None:
    (tmp_path / "much.png").write_bytes(png(kind, body, behind=behind))
    assert values(tmp_path / "much.png").min() == 255


def test_what_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    flood = zlib.compress(bytes(2**26 + 1))
    (tmp_path / "flood.png").write_bytes(png(b"zTXt", b"Comment\0\0" + flood))
    with pytest.raises(DataError, match=r"flood\.png cannot be read .*too large"):
        read_image(tmp_path / "flood.png")


def test_pictures_are_read_up_to_the_most_pixels_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    for side in (4, 5):
        Image.new("L", (side, side)).save(tmp_path / f"{side}.png")
    # Pillow warns above this, and refuses above its double
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(tmp_path / "4.png").size == (4, 4)
    assert not recwarn.list
    with pytest.raises(DataError, match=r"5\.png .*25 pixels"):
        read_image(tmp_path / "5.png")


def written(form: str, mode: str = "RGB", **how: Any) -> bytes:
    noise = np.random.default_rng(0).integers(256, size=(24, 32, 3), dtype=np.uint8)
    kept = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(kept, form, **how)
    return kept.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<!DOCTYPE html><html><body>404</body></html>",
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        written("JPEG")[:400],
        written("PNG")[:60],
        written("PNG")[:400],
    ],
    ids=["empty", "html", "svg", "heic", "pointer", "jpeg", "header", "png"],
)
def test_what_is_no_whole_picture_is_refused_by_name(
    content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"photo\.jpg cannot be read as a picture: \w"):
        read_image(tmp_path / "photo.jpg")


def test_a_folder_or_nothing_in_place_of_a_picture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read as a picture: Is a directory"):
        read_image(tmp_path)
    with pytest.raises(DataError, match=r"none\.jpg .*No such file"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK")),
        *(("GIF", "P"), ("TIFF", "RGB"), ("TIFF", "F"), ("WEBP", "RGB")),
        *(("BMP", "RGB"), ("PPM", "L"), ("ICO", "RGBA"), ("TGA", "RGB")),
    ],
)
def test_whatever_is_broken_in_a_file_it_is_one_sentence(
    form: str, mode: str, tmp_path: Path
) -> None:
    chance, file, whole = random.Random(0), tmp_path / "broken", written(form, mode)
    refused = []
    for number in range(100):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            # most of what can go wrong is in the header
            at = chance.randrange(min(len(data), chance.choice((30, 200, 4000))))
            data[at] = chance.choice((0, 1, 127, 128, 255))
        if number % 4 == 0:
            del data[chance.randrange(len(data)) :]
        file.write_bytes(data)
        try:
            read_image(file, upright=number % 2 == 0)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert not any("\n" in said for said in refused)
