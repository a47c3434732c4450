"""A planted password in every output there is: text, JSON, pages, figures, exports."""

from __future__ import annotations

import io
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from allocator import open_study
from allocator.cli import search as cli
from allocator.core.masking import remember
from allocator.report.console import PlainConsole, say
from allocator.report.figures import FIGURES
from allocator.report.progress import Bars
from allocator.study.journal import Journal
from allocator.study.recommendations import keep_recommendation
from tests.study.test_passwords import (
    SECRETS,
    clean,
    file,
    found,
    made,
    nothing_remembered,
    planted,
    rows,
    url,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# fixtures, found by their names
__all__ = ["file", "found", "made", "nothing_remembered", "url"]


def ran(words: Sequence[str], url: str) -> Any:
    """A command on the planted storage; what it prints has no secret, either way."""
    done = CliRunner().invoke(cli.main, [*words, "--storage", url])
    clean(done.output)
    clean(done.stderr)
    return done


@pytest.mark.parametrize(
    "words",
    [
        ("studies", "list", "--json"),
        ("studies", "show", "study", "--debug"),
        ("studies", "show", "gone", "--json", "--debug"),
        ("explain", "study", "--json", "--debug"),
        ("explain", "gone", "--debug"),
        ("export", "study", "--format", "no-such", "--out", "x", "--debug"),
        ("export", "gone", "--format", "plan", "--out", "x"),
        ("report", "gone", "--out", "x.html", "--debug"),
        ("dashboard", "--port", "99999", "--debug"),
        ("studies", "no-such-command"),
        ("studies", "show"),
    ],
)
def test_no_command_prints_it_whether_it_works_or_not(
    words: tuple[str, ...], found: Any, url: str
) -> None:
    del found
    ran(words, url)


@pytest.mark.parametrize("fmt", ["html", "svg", "png"])
@pytest.mark.parametrize("figure", FIGURES)
def test_no_page_and_no_figure_has_it(
    fmt: str, figure: str, found: Any, url: str, tmp_path: Path
) -> None:
    del found
    if fmt == "html" and figure != FIGURES[0]:
        pytest.skip("a page has all figures")
    out = tmp_path / f"report.{fmt}"
    asked = () if fmt == "html" else ("--figure", figure)
    done = ran(("report", "study", "--out", str(out), *asked), url)
    if done.exit_code == 0:
        clean(out.read_bytes().decode("latin-1"))
    else:
        assert "there is nothing to draw" in done.stderr


def test_every_file_of_an_export_is_without_it(
    found: Any, url: str, tmp_path: Path
) -> None:
    del found
    out = tmp_path / "out"
    assert ran(("export", "study", "--format", "plan", "--out", str(out)), url)
    files = [each for each in out.rglob("*") if each.is_file()]
    assert files
    for each in files:
        clean(each.read_bytes().decode("latin-1"))


def test_what_python_is_given_shows_it_nowhere(found: Any, url: str) -> None:
    del found
    study = open_study("study", url)
    for shown in (repr(study), study._repr_html_(), repr(study.journal), study.name):
        clean(shown)
    clean(json.dumps(study.recommendation))
    clean(json.dumps(study.front()))
    frame = pytest.importorskip("pandas") and study.trials_dataframe()
    clean(frame.to_csv())


def test_every_line_of_a_file_that_grows_is_without_it(
    found: Any, url: str, tmp_path: Path
) -> None:
    _, recommended = found
    log = tmp_path / "studies.log"
    asked = {"model": "toy", "task": "vqav2", "storage": url}
    journal = Journal.create(str(log), "study", "identity", asked)
    plan = {"model": "toy", "storage": "left out"}
    keep_recommendation(journal, "goal", recommended, plan)
    journal.describe("accuracy (%)", {"storage": "see above"})
    for line in log.read_text().splitlines():
        clean(line)
    assert re.search(r"planted://me:\*\*\*@host", log.read_text())


def test_every_value_of_every_row_of_a_database_is_without_it(
    found: Any, url: str, file: Path
) -> None:
    journal, recommended = found
    Journal.create(url, "other", "identity", {"storage": url, "model": "toy"})
    keep_recommendation(journal, "another goal", recommended, {})
    clean(rows(file))
    # in whatever form the file has it, freed pages too
    clean(file.read_bytes().decode("latin-1"))


def test_progress_and_logs_say_nothing_of_it(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(url)
    kept = io.StringIO()
    console = PlainConsole(file=kept, force_terminal=True)
    say(console, f"waiting for {SECRETS[0]} of {url}")
    console.print(f"a cell with {SECRETS[1]}")
    bars = Bars(console)
    bars.say(f"opened {url}")
    with bars.phase("bank") as tell:
        tell(1, 2)
    clean(kept.getvalue())
    logging.getLogger("allocator").warning("nothing of ours logs")
    clean("".join(capsys.readouterr()))


def test_a_password_is_hidden_where_a_name_holds_it(url: str, tmp_path: Path) -> None:
    # somebody's file may be called so, and a sentence names files
    table = tmp_path / f"{SECRETS[0]}.csv"
    done = ran(("replay", str(table), "--score", "a", "--budget", "4"), url)
    assert done.exit_code == 2
    remember(planted(tmp_path))
    done = CliRunner().invoke(
        cli.main, ["replay", str(table), "--score", "a", "--budget", "4"]
    )
    assert done.exit_code == 2
    clean(done.stderr)
