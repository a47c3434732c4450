"""The commands `allocate studies ...`."""

from __future__ import annotations

import json

import click
import cloup

from allocator.cli.echo import echo
from allocator.cli.explain import journal_of
from allocator.cli.options import CONTEXT, as_json, storage


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
