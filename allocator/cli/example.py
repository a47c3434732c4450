"""The command `allocate example`: data of one's own, as an example."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import cloup

from allocator.cli.echo import echo
from allocator.cli.options import CONTEXT, FOLDER

if TYPE_CHECKING:
    from pathlib import Path


@cloup.command(context_settings=CONTEXT)
@cloup.option(
    "--out",
    type=FOLDER,
    required=True,
    metavar="shop",
    help="Folder to write, which is not there yet.",
)
def example(out: Path) -> None:
    """Write an example of data of your own, with drawn pictures."""
    from evals.world.example import ROWS, write_example

    rows, folder = write_example(out.expanduser()), shlex.quote(str(out))
    echo(
        f"{out}: 600 pictures, {rows:,} questions with their answers in {ROWS}",
        f"  allocate --budget 4.0 --task own --data {folder} --model tiny-llava",
    )
