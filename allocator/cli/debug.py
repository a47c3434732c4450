"""`--debug`, which every command has: show where an error happened."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import cloup

from allocator.cli.echo import echo
from allocator.core.masking import masked

if TYPE_CHECKING:
    import click

DEBUG = "allocate.debug"


def _note(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    # all commands of a line share it
    ctx.meta[DEBUG] = ctx.meta.get(DEBUG, False) or value


debug = cloup.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_note,
    help="Show where an error happened; every command has it.",
)


def with_debug(command: click.Command) -> None:
    """Give a command, and all below it, the option."""
    debug(command)
    for below in getattr(command, "commands", {}).values():
        with_debug(below)


def tell(ctx: click.Context, sentence: str) -> None:
    """Say why nothing came out; with --debug, where it happened first."""
    if ctx.meta.get(DEBUG):
        echo(*masked(traceback.format_exc()).splitlines(), err=True)
    echo(f"allocate: {masked(sentence)}", err=True)
