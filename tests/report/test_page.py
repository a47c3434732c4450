"""The page needs nothing else, shows what there is, and runs nothing of its data."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import SpecError, UnknownNameError
from allocator.report.charts import bits_chart
from allocator.report.page import write_page
from allocator.report.render import render
from tests.report.data import (
    MARKUP,
    bare_data,
    exceptional_data,
    hostile_data,
    replay_data,
    search_data,
)

if TYPE_CHECKING:
    from pathlib import Path


class Reader(HTMLParser):
    """Elements and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attrs)
        self.addresses += [known[k] or "" for k in ("src", "href") if k in known]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def written(data: dict[str, Any], folder: Path) -> str:
    out = folder / "report.html"
    write_page(data, out)
    return out.read_text(encoding="utf-8")


def test_a_page_asks_for_nothing_from_anywhere(tmp_path: Path) -> None:
    reader = Reader(written(search_data(), tmp_path))
    outside = [a for a in reader.addresses if not a.startswith(("#", "data:"))]
    assert outside == []
    assert reader.tags.count("h1") == 1
    assert "main" in reader.tags


@pytest.mark.parametrize("make", [search_data, replay_data])
def test_a_page_says_what_was_found(make: Any, tmp_path: Path) -> None:
    data = make()
    said = " ".join("".join(Reader(written(data, tmp_path)).text).split())
    assert data["title"] in said
    assert f"{data['found']['recommended']['bpw']:.3f}" in said
    for sentence in data["explained"]["sentences"]:
        assert " ".join(sentence.split()) in said
    for command in data["commands"]:
        assert command in said


@pytest.mark.parametrize(("make", "kept"), [(search_data, True), (replay_data, False)])
def test_a_table_keeps_no_study(make: Any, kept: bool, tmp_path: Path) -> None:
    assert ("Everything measured is kept" in written(make(), tmp_path)) == kept


def test_nothing_of_the_data_becomes_markup(tmp_path: Path) -> None:
    plain = Reader(written(search_data(), tmp_path))
    text = written(hostile_data(), tmp_path)
    reader = Reader(text)
    assert reader.tags.count("script") == plain.tags.count("script")
    assert "img" not in reader.tags
    assert MARKUP not in text


def test_charts_hold_no_tag_of_the_data(tmp_path: Path) -> None:
    text = written(hostile_data(), tmp_path)
    kept = re.search(r"<script[^>]*application/json[^>]*>(.*?)</script>", text, re.S)
    assert kept is not None
    told = json.dumps(json.loads(kept.group(1)), ensure_ascii=False)
    assert "<script" not in told
    assert "<img" not in told
    assert "&lt;img" in told


def test_a_page_of_nothing_is_a_page(tmp_path: Path) -> None:
    said = "".join(Reader(written(bare_data(), tmp_path)).text)
    assert "bare" in said


@pytest.mark.parametrize(
    "path",
    [
        ("found", "full_precision"),
        ("explained", "allocation"),
        ("explained", "interactions"),
        ("explained", "importance"),
        ("found", "recommended"),
        ("found", "budget"),
    ],
)
def test_what_is_missing_is_left_out(path: tuple[str, str], tmp_path: Path) -> None:
    data = search_data()
    data[path[0]][path[1]] = None
    assert data["title"] in written(data, tmp_path)


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("before")
    data = search_data()
    data["trials"][0]["bpw"] = float("nan")
    data["trials"][0]["score"] = float("nan")
    with pytest.raises(Exception, match="not finite"):
        write_page(data, out)
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("name", "fmt", "figure", "said"),
    [
        ("report.pdf", None, None, "not one of html, png, svg"),
        ("report", None, None, "not one of html, png, svg"),
        ("report.html", "jpeg", None, "--format jpeg is not one of"),
        ("nowhere/report.html", None, None, "not a file in a folder that exists"),
        ("", None, None, "is not one of|not a file"),
        ("report.html", None, "front", "--figure front goes with"),
    ],
)
def test_impossible_files_are_refused_before_anything_is_computed(
    tmp_path: Path, name: str, fmt: str | None, figure: str | None, said: str
) -> None:
    with pytest.raises(SpecError, match=said):
        render(tmp_path / name, fmt, figure)


def test_an_unknown_figure_is_refused_with_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'front'"):
        render(tmp_path / "f.png", None, "frnt")


def test_a_page_tells_the_pins_and_what_is_uniform_beside_them(tmp_path: Path) -> None:
    data = search_data()
    data["found"]["pins"] = {"pin": [f"[{MARKUP}v]*=16"], "at_least": ["*.ff=3"]}
    for each in data["uniform"]:
        each |= {"pinned": True, "digest": "of a uniform one"}
    page = written(data, tmp_path)
    shown = " ".join(Reader(page).text)
    assert MARKUP not in page
    assert f"It keeps the pins [{MARKUP}v]*=16, *.ff at least 3, as do the uniform" in (
        shown
    )
    assert "everywhere else" in shown
    assert "everywhere," not in shown


def rivals_data() -> dict[str, Any]:
    """The search with an even mix and an additive optimum beside it."""
    data = search_data()
    row = {"fits": True, "finalized": None}
    data["found"]["rivals"] = [
        {**row, "name": "even_mix", "digest": "mixed", "bpw": 3.9, "score": 85.0},
        {**row, "name": "additive", "digest": "optimal", "bpw": 3.99, "score": 93.0},
    ]
    data["found"]["recommended"] |= {
        "vs_even_mix": {"difference": 8.795, "ci95": [7.0, 10.5]},
        "vs_additive": {"difference": 0.795, "ci95": [-0.2, 1.8]},
    }
    return data


def test_a_page_tells_what_was_gained_over_even_mix_and_additive_optimum(
    tmp_path: Path,
) -> None:
    page = written(rivals_data(), tmp_path)
    shown = " ".join(Reader(page).text)
    assert (
        "The even mix of the same size scores 85.00: the difference is "
        "+8.79 [+7.00, +10.50] points." in shown
    )
    assert "+0.80 [-0.20, +1.80] points, which is within the noise." in shown
    for words in ("Over the even mix", "Over the additive optimum"):
        assert words in shown
    # in the figure and in the table beside it
    assert page.count('"name":"even mix"') == 1
    assert "<td>additive optimum</td>" in page


def test_a_page_tells_where_a_rival_is_what_is_recommended(tmp_path: Path) -> None:
    data = rivals_data()
    data["found"]["rivals"][1]["digest"] = data["found"]["recommended"]["digest"]
    shown = " ".join(Reader(written(data, tmp_path)).text)
    assert "It is the additive optimum of this size itself." in shown


def test_a_page_tells_how_often_full_precision_would_say_the_same(
    tmp_path: Path,
) -> None:
    data = search_data()
    assert "what full precision replies" not in written(data, tmp_path)
    best = data["found"]["recommended"]
    best["details"] = {"agreement with full precision (%)": 81.24}
    best["divergence"] = {"nats": 0.5, "tokens": 1_200, "samples": 400}
    said = " ".join("".join(Reader(written(data, tmp_path)).text).split())
    assert (
        "81.2 % of the replies are what full precision replies, the tokens of full "
        "precision's replies diverge by 0.5 nats each (1,200 tokens of 400 samples)."
        in said
    )


def test_a_page_tells_and_marks_single_linears_that_differ(tmp_path: Path) -> None:
    text = written(exceptional_data(), tmp_path)
    said = " ".join("".join(Reader(text).text).split())
    assert (
        "2 single linears differ from their groups: language_model.layers.0.q_proj "
        "8 awq, vision_model.layers.0.fc1 16." in said
    )
    assert "In groups with * single linears differ: point at one." in said
    assert "language_model.layers.0.q_projlanguage.front.attn8 awq" in said
    chart = bits_chart(exceptional_data())
    assert chart is not None
    heat, ticks = chart["data"][0], chart["layout"]["xaxis"]["ticktext"]
    # in the recommended column alone
    marked = [
        (row, column)
        for row, texts in enumerate(heat["text"])
        for column, text in enumerate(texts)
        if text.endswith("*")
    ]
    assert {column for _, column in marked} == {
        at for at, tick in enumerate(ticks) if "★" in tick
    }
    assert len(marked) == 2
    hover = heat["hovertext"][marked[1][0]][marked[1][1]]
    assert hover.endswith("bpw<br>but for language_model.layers.0.q_proj 8 awq")


def test_without_exceptions_nothing_is_said_of_them(tmp_path: Path) -> None:
    assert "single linear" not in written(search_data(), tmp_path)
