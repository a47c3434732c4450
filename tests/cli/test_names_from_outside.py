"""Names from data, models and databases are printed as they are, and do nothing."""

from __future__ import annotations

import csv
import json
import os
import random
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import optuna
import pytest
from click.testing import CliRunner
from rich.table import Table

import allocator
from allocator.cli import main
from allocator.core.text import UNSEEN, visible
from allocator.report.console import PlainConsole
from allocator.report.progress import Bars

if TYPE_CHECKING:
    from click.testing import Result

ESC, OVERRIDE, CSI = "\x1b[31m", "\N{RIGHT-TO-LEFT OVERRIDE}", "\x9b2J"
KEYS = (
    "[/red]a_bits",
    "[bold]b_bits",
    f"{ESC}c_bits",
    f"$x^$d{OVERRIDE}_bits",
    ":smile:_bits",
    "[link=https://example.org]e_bits",
)
SCORE = f"[/]CI[red]DEr{CSI}\x07"
# as people see them
SEEN = (
    "[/red]a_bits",
    "[bold]b_bits",
    r"\x1b[31mc_bits",
    r"$x^$d\u202e_bits",
    ":smile:_bits",
    "[link=https://example.org]e_bits",
)


def unseen(text: str) -> set[str]:
    """Characters that do something other than show."""
    return {each for each in text if unicodedata.category(each) in UNSEEN} - {"\n"}


def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table of measurements whose names would do things to a terminal."""
    wide(monkeypatch)
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    name = f"[bold]{ESC}table.csv"
    with (tmp_path / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*KEYS, "bpw", SCORE])
        for _ in range(30):
            bits = [rng.choice((2, 4, 8)) for _ in KEYS]
            size = sum(bits) / len(bits)
            writer.writerow([*bits, size, 50 + 3 * size + bits[0] + rng.random()])
    return name


def run(*words: str) -> Result:
    found = CliRunner().invoke(main, words)
    assert found.exit_code == 0, found.output
    return found


def test_what_does_not_show_is_made_visible_and_all_else_stays() -> None:
    assert visible("größe 模型 \N{SLICE OF PIZZA} [b] $x$") == (
        "größe 模型 \N{SLICE OF PIZZA} [b] $x$"
    )
    assert visible("\x1b[0m\x9b\x00\x7f\n\t\r") == r"\x1b[0m\x9b\x00\x7f\n\t\r"
    assert visible("a\u202eb\u2066\u200b\ufeff\u2028") == (
        r"a\u202eb\u2066\u200b\ufeff\u2028"
    )
    # of a file's name that is no UTF-8
    assert visible("\udc80") == r"\udc80"
    # words of some scripts need their joiners
    assert visible("نمی‌خواهم") == "نمی‌خواهم"


def test_a_replay_shows_its_names_and_its_result(table: str) -> None:
    options = ("--score", SCORE, "--budget", "5", "--trials", "16")
    found = run("replay", table, *options)
    assert unseen(found.output) == set()
    for name in (*SEEN, r"[bold]\x1b[31mtable.csv", r"[/]CI[red]DEr\x9b2J\x07"):
        assert name in found.stdout
    told = json.loads(run("replay", table, *options, "--json").stdout)
    assert tuple(told["recommended"]["allocation"]) == KEYS


def test_an_explanation_shows_its_names(table: str) -> None:
    found = run("explain", table, table, "--score", SCORE)
    assert unseen(found.output) == set()
    assert all(name in found.stdout for name in SEEN)


def test_pages_and_figures_show_their_names(table: str, tmp_path: Path) -> None:
    options = ("--score", SCORE, "--budget", "5", "--trials", "16")
    run("replay", table, *options, "--out", "page.html")
    text = (tmp_path / "page.html").read_text()
    # the charts' library has characters of its own
    own = text.partition("<script>")[0]
    assert unseen(own) == set()
    assert r"\x1b[31mc_bits" in own
    kept = own.partition('id="charts">')[2].partition("</script>")[0]
    assert unseen(json.dumps(json.loads(kept), ensure_ascii=False)) == set()


def test_a_figure_with_such_names_is_a_picture() -> None:
    from allocator.report.figures import drawn
    from tests.report.data import search_data

    hostile = r"$\u001b[31m\u202e$"
    data = json.loads(json.dumps(search_data()).replace("language", hostile))
    svg = drawn(data, "bits", "svg").decode()
    ElementTree.fromstring(svg)
    assert unseen(svg) == set()
    assert r"$\x1b[31m\u202e$" in svg


def test_studies_of_others_are_listed_and_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide(monkeypatch)
    url = f"sqlite:///{tmp_path}/studies.db"
    name = f"[/red]study{ESC}{OVERRIDE}"
    optuna.create_study(storage=url, study_name=name)
    shown = r"[/red]study\x1b[31m\u202e"
    listed = run("studies", "list", "--storage", url)
    assert listed.stdout == f"{shown}\n"
    for words in (("studies", "show"), ("explain",)):
        found = CliRunner().invoke(main, [*words, "none", "--storage", url])
        assert found.exit_code == 2
        assert unseen(found.output) == set()
        assert shown in found.stderr
    debug = ["studies", "show", "none", "--storage", url, "--debug"]
    assert unseen(CliRunner().invoke(main, debug).output) == set()


def test_a_terminal_that_lacks_a_character_gets_it_escaped(table: str) -> None:
    os.rename(table, "größe.csv")
    words = ("replay", "größe.csv", "--score", SCORE, "--budget", "5", "--trials", "3")
    found = CliRunner(charset="ascii").invoke(main, words)
    assert found.exit_code == 0, found.output
    assert r"gr\xf6\xdfe.csv" in found.stdout


def test_whatever_is_printed_by_a_console_is_plain(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide(monkeypatch)
    console = PlainConsole()
    hostile = "".join(KEYS)
    table = Table(hostile, title=hostile, caption=hostile)
    table.add_row(hostile)
    console.print(hostile, table)
    Bars(PlainConsole(stderr=True)).say(hostile)
    found = capsys.readouterr()
    assert unseen(found.out + found.err) == set()
    assert found.out.count("".join(SEEN)) == 5
    assert found.err == "".join(SEEN) + "\n"


def test_nothing_is_printed_but_by_what_prints_plainly() -> None:
    package = Path(allocator.__file__).parent
    plain = {"report/console.py", "cli/echo.py"}
    words = ("rich.console import", "rich.markup", "click.echo(")
    # JSON has escapes of its own for whatever does not show, and help is ours
    allowed = ("click.echo(json.dumps(", "click.echo(ctx.get_help())")
    for file in package.rglob("*.py"):
        if str(file.relative_to(package)) in plain:
            continue
        for line in file.read_text().splitlines():
            printed = any(word in line for word in words)
            assert not printed or line.strip().startswith(allowed), file


def test_a_note_beside_a_bar_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setenv("TERM", "xterm")
    console = PlainConsole(force_terminal=True, record=True)
    with Bars(console).phase("search") as tell:
        tell(1, 2, "".join(KEYS))
    text = console.export_text()
    assert "".join(SEEN) in text
