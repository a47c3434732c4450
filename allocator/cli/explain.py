"""The commands `allocate explain`, `allocate report` and `allocate dashboard`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import cloup

from allocator.cli.echo import echo
from allocator.cli.options import CONTEXT, FILE, as_json, minimize, storage
from allocator.core.errors import SpecError
from allocator.core.study import check_study_name

TABLES = (".csv", ".tsv")


@cloup.command(context_settings=CONTEXT)
@cloup.argument("names", metavar="NAME|TABLE.csv [NAME|TABLE.csv]", nargs=-1)
@cloup.option(
    "--score",
    "scores",
    metavar="CIDEr",
    multiple=True,
    help="Of a table; of two tables, one for both or for each.",
)
@minimize
@cloup.option(
    "--bits",
    metavar="'vit_*,llm_*'",
    multiple=True,
    help="Of a table: columns of its groups.  [default: those named *_bits]",
)
@storage
@as_json
def explain(
    names: tuple[str, ...],
    scores: tuple[str, ...],
    minimize: bool | None,
    bits: tuple[str, ...],
    storage: str | None,
    as_json: bool,
) -> None:
    """Show what mattered in a study or a table, and why.

    Given two, it shows them side by side.
    """
    if len(names) not in (1, 2):
        raise SpecError(
            f"explain takes one study or table, or two to compare, not {len(names)}"
        )
    tables = [is_table(name) for name in names]
    if minimize is not None and not any(tables):
        option = "--minimize" if minimize else "--maximize"
        raise SpecError(f"{option} belongs to a table, and {names[0]} is a study")
    columns = iter(spread("--score", scores, sum(tables)))
    groups = iter(spread("--bits", bits, sum(tables)))
    found = [
        of_table(name, next(columns), next(groups), minimize)
        if is_table(name)
        else of_study(name, storage)
        for name in names
    ]
    from allocator.explain.comparison import compare
    from allocator.report.text_explanation import print_comparison, print_explanation

    both = compare(*found) if len(found) == 2 else None
    if as_json:
        click.echo(json.dumps(both or found[0]))
    elif both:
        print_comparison(both)
    else:
        print_explanation(found[0])


def is_table(name: str) -> bool:
    """Whether a name is that of a table and not of a study."""
    return name.lower().endswith(TABLES)


def spread(option: str, given: tuple[str, ...], tables: int) -> list[str | None]:
    """What each table gets of an option that may be given for all or for each.

    Raises:
        SpecError: neither as often as there are tables nor once for them all.

    >>> spread("--score", ("CIDEr",), 2)
    ['CIDEr', 'CIDEr']
    """
    if not given:
        return [None] * tables
    if len(given) == 1 and tables:
        return [*given] * tables
    if len(given) != tables:
        raise SpecError(
            f"{option} belongs to a table: it is given {len(given)} times for {tables}"
        )
    return [*given]


def of_table(
    name: str, score: str | None, bits: str | None, minimize: bool | None
) -> dict[str, Any]:
    """Explain a table."""
    if score is None:
        raise SpecError(f"{name} is a table: name its column of scores with --score")
    from allocator.explain import explanation
    from allocator.report.progress import Bars

    bars, table = Bars(), Path(name)
    with bars.phase("explanation") as tell:
        found = explanation.explain_table(table, score, bits, minimize, tell)
    for note in found["notes"]:
        bars.say(note)
    return found


def of_study(name: str, storage: str | None) -> dict[str, Any]:
    """Explain a study."""
    from allocator.explain import explanation
    from allocator.report.progress import Bars

    journal = journal_of(name, storage)
    with Bars().phase("explanation") as tell:
        return explanation.explain_study(journal, tell)


def journal_of(name: str, storage: str | None) -> Any:
    """The study of a name."""
    from allocator.study.journal import Journal

    return Journal.load(storage, check_study_name(name))


@cloup.command(context_settings=CONTEXT)
@cloup.argument("name")
@cloup.option(
    "--out",
    type=FILE,
    required=True,
    metavar="report.html",
    help="The file to write: html, png or svg.",
)
@cloup.option(
    "--format",
    "fmt",
    metavar="svg",
    help="html, png, svg.  [default: by the file's ending]",
)
@cloup.option(
    "--figure",
    metavar="importance",
    help="Of png and svg: front, importance, bits, trials, proxies, waterfall, "
    "interactions.  [default: front]",
)
@storage
def report(
    name: str, out: Path, fmt: str | None, figure: str | None, storage: str | None
) -> None:
    """Write a study as a page to read, or one of its figures."""
    from allocator.report.data import study_report
    from allocator.report.progress import Bars
    from allocator.report.render import render

    show = render(out, fmt, figure)
    journal = journal_of(name, storage)
    with Bars().phase("explanation") as tell:
        data = study_report(journal, tell)
    show(data)
    echo(str(out))


@cloup.command(context_settings=CONTEXT)
@cloup.option(
    "--port", default=8080, metavar="8080", help="Of this machine.  [default: 8080]"
)
@storage
def dashboard(port: int, storage: str | None) -> None:
    """Open optuna-dashboard on the studies, where it is installed."""
    from allocator.report.dashboard import serve

    serve(storage, port, lambda line: echo(line, err=True))
