"""Single figures are files of their format with the data in them."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from allocator.core.errors import SpecError, UnknownNameError
from allocator.report.figures import FIGURES, write_figure
from tests.report.data import (
    bare_data,
    exceptional_data,
    hostile_data,
    paired_data,
    replay_data,
    search_data,
)

if TYPE_CHECKING:
    from pathlib import Path

EACH = pytest.mark.parametrize("name", FIGURES)
# what the short search has no reliable pairs for
DRAWN = tuple(name for name in FIGURES if name != "interactions")


def written(data: dict[str, Any], name: str, fmt: str, folder: Path) -> bytes:
    out = folder / f"figure.{fmt}"
    write_figure(data, name, out, fmt)
    return out.read_bytes()


@pytest.mark.parametrize("name", DRAWN)
def test_a_png_is_a_picture_with_something_in_it(name: str, tmp_path: Path) -> None:
    picture = Image.open(BytesIO(written(search_data(), name, "png", tmp_path)))
    assert picture.width == 1200
    assert picture.height > 300
    assert len(picture.convert("RGB").getcolors(2**20) or []) > 20


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("front", ("full precision", "recommended", "gptq everywhere")),
        ("importance", ("language.front.attn", "Component")),
        ("bits", ("vision.end.ff", "bpw")),
        ("trials", ("score",)),
        ("proxies", ("divergence on 32 samples",)),
        ("waterfall", ("mean of all", "predicted")),
    ],
)
def test_an_svg_holds_the_words(
    name: str, texts: tuple[str, ...], tmp_path: Path
) -> None:
    text = written(search_data(), name, "svg", tmp_path).decode()
    assert text.lstrip().startswith("<?xml")
    assert all(each in text for each in texts)
    assert written(search_data(), name, "svg", tmp_path).decode() == text


def test_groups_are_marked_in_which_single_linears_differ(tmp_path: Path) -> None:
    kept, marked = (
        written(data, "bits", "svg", tmp_path).decode()
        for data in (search_data(), exceptional_data())
    )
    starred = re.compile(r">\d+\*<")
    assert len(starred.findall(marked)) == 2
    assert starred.findall(kept) == []


def test_pairs_are_drawn_where_they_mean_something(tmp_path: Path) -> None:
    text = written(paired_data(), "interactions", "svg", tmp_path).decode()
    assert "vision.end.ff and language.end.ff" in text
    with pytest.raises(SpecError, match="nothing to draw"):
        write_figure(search_data(), "interactions", tmp_path / "f.png")


@pytest.mark.parametrize(
    ("name", "word"),
    [("front", "CIDEr"), ("trials", "vit_bits"), ("bits", "qformer_bits")],
)
def test_a_replay_has_figures_too(name: str, word: str, tmp_path: Path) -> None:
    assert word in written(replay_data(), name, "svg", tmp_path).decode()


@pytest.mark.parametrize("name", DRAWN)
def test_markup_and_mathematics_are_text(name: str, tmp_path: Path) -> None:
    data = hostile_data()
    data["found"]["metric"] = "$x^$ <b>"
    text = written(data, name, "svg", tmp_path).decode()
    assert "<img" not in text
    assert "<script" not in text


@EACH
def test_without_data_there_is_no_figure(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"nothing to draw as '{name}'"):
        write_figure(bare_data(), name, tmp_path / "f.png")
    assert list(tmp_path.iterdir()) == []


def test_what_there_is_none_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="no figure 'cake'"):
        write_figure(search_data(), "cake", tmp_path / "f.png")
    with pytest.raises(SpecError, match="format 'pdf'"):
        write_figure(search_data(), "front", tmp_path / "f.pdf", "pdf")
