"""The commands `allocate studies ...` and `allocate export`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import cloup

from allocator.cli.echo import echo
from allocator.cli.explain import journal_of
from allocator.cli.options import (
    CONTEXT,
    FOLDER,
    as_json,
    storage,
)
from allocator.cli.values import completing, listed
from allocator.core.plugins import available

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = available("allocator.exporters")


@cloup.group(context_settings=CONTEXT)
def studies() -> None:
    """List and show the studies on disk."""


@studies.command("list")
@storage
@as_json
def list_studies(storage: str | None, as_json: bool) -> None:
    """List all studies."""
    from allocator.study.storage import study_names

    names = study_names(storage)
    if as_json:
        click.echo(json.dumps(names))
    else:
        echo(*(names or ["no studies yet: allocate --budget 4.0 ..."]))


@studies.command("show")
@cloup.argument("name")
@storage
@as_json
def show_study(name: str, storage: str | None, as_json: bool) -> None:
    """Show a study's latest recommendation."""
    from allocator.report.text_search import print_first_prompt, print_recommendation
    from allocator.study.journal import FIRST_PROMPT
    from allocator.study.recommendations import recommendation

    journal = journal_of(name, storage)
    found = recommendation(journal)["found"]
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_recommendation(found)
        print_first_prompt(journal.attribute(FIRST_PROMPT))


@cloup.command(context_settings=CONTEXT)
@cloup.argument("name")
@cloup.option(
    "--format",
    "fmt",
    required=True,
    metavar="plan",
    shell_complete=completing(FORMATS),
    help=f"{listed(FORMATS)}.",
)
@cloup.option(
    "--out",
    type=FOLDER,
    required=True,
    metavar="./export",
    help="Folder to write into.",
)
@storage
def export(name: str, fmt: str, out: Path, storage: str | None) -> None:
    """Write a recommendation for something else to read."""
    from allocator.core.plugins import load

    exporter = load("allocator.exporters", fmt, "export format")
    written = exporter.write(_kept(name, storage)["plan"], out)
    echo(str(written))


def _kept(name: str, storage: str | None) -> dict[str, Any]:
    from allocator.study.recommendations import recommendation

    return recommendation(journal_of(name, storage))
