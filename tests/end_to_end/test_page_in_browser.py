"""The page in a real browser: at two widths, light and dark, without a complaint."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from allocator.report.page import write_page
from tests.report.data import (
    bare_data,
    hostile_data,
    paired_data,
    replay_data,
    search_data,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
)
WIDTHS = (1280, 400)
MAKERS = {
    "search": search_data,
    "pairs": paired_data,
    "replay": replay_data,
    "hostile": hostile_data,
    "bare": bare_data,
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None or find_spec("playwright") is None:
        if os.environ.get("ALLOCATE_NEEDS_BROWSER"):
            pytest.fail("no chromium or no playwright, although both were asked for")
        pytest.skip("no chromium or no playwright on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


class Seen:
    """A page that was opened, and what it complained of or asked for."""

    def __init__(self, browser: Any, file: Path, width: int, scheme: str) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        size = {"width": width, "height": 900}
        self.page = browser.new_page(viewport=size, color_scheme=scheme)
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda asked: self.requests.append(asked.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_timeout(1200)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def written(name: str, folder: Path) -> Path:
    out = folder / f"{name}.html"
    write_page(MAKERS[name](), out)
    return out


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_is_drawn_without_complaint(
    browser: Any, tmp_path: Path, width: int, scheme: str, name: str
) -> None:
    file = written(name, tmp_path)
    seen = Seen(browser, file, width, scheme)
    assert seen.complaints == []
    # data: and blob: addresses are parts of the page itself
    asked = [u for u in seen.requests if not u.startswith(("data:", "blob:"))]
    assert asked == [file.as_uri()]
    wide = seen.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width
    places = seen.page.locator(".chart").count()
    drawn = seen.page.locator(".chart svg.main-svg").count()
    assert drawn >= places
    if name != "bare":
        assert places >= 3
    seen.page.close()


def test_markup_of_the_data_never_runs(browser: Any, tmp_path: Path) -> None:
    seen = Seen(browser, written("hostile", tmp_path), 1280, "light")
    assert seen.page.title() != "run"
    assert seen.page.locator("img").count() == 0
    assert seen.complaints == []


def test_hovering_over_the_front_shows_the_allocation(
    browser: Any, tmp_path: Path
) -> None:
    seen = Seen(browser, written("search", tmp_path), 1280, "light")
    points = seen.page.locator("#front .scatterlayer .trace .points path")
    assert points.count() > 5
    last = points.nth(points.count() - 1).bounding_box()
    middle = last["x"] + last["width"] / 2, last["y"] + last["height"] / 2
    seen.page.mouse.move(*middle)
    seen.page.wait_for_timeout(400)
    told = seen.page.locator("#front .hoverlayer").text_content()
    assert "language.front" in told
    assert "bits per weight" in told


def test_charts_follow_the_scheme_of_the_reader(browser: Any, tmp_path: Path) -> None:
    seen = Seen(browser, written("search", tmp_path), 1280, "light")

    def ink() -> str:
        label = seen.page.locator("#front .xtick text").first
        return str(label.evaluate("node => getComputedStyle(node).fill"))

    before = ink()
    seen.page.emulate_media(color_scheme="dark")
    seen.page.wait_for_timeout(800)
    assert ink() != before
    assert seen.complaints == []
