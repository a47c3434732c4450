"""The command `allocate export`."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import cloup

from allocator.cli.explain import journal_of
from allocator.cli.options import (
    CONTEXT,
    FILE,
    as_json,
    data,
    device,
    given_of,
    memory,
    storage,
)
from allocator.cli.values import completing, listed
from allocator.core.errors import SpecError
from allocator.exporters import formats

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.exporters._request import Source

FORMATS = formats()
SCALES = ("fp32", "fp16")


@cloup.command(context_settings=CONTEXT)
@cloup.argument("name", required=False)
@cloup.option_group(
    "What is written",
    cloup.option(
        "--plan",
        type=FILE,
        metavar="plan.json",
        help="A plan, or another tool's file, in place of a study's name.",
    ),
    cloup.option(
        "--trial",
        type=int,
        metavar="12",
        help="A measured trial, not the recommendation: its score is not confirmed.",
    ),
    storage,
)
@cloup.option_group(
    "How, and where to",
    cloup.option(
        "--format",
        "fmt",
        required=True,
        metavar="plan",
        shell_complete=completing(FORMATS),
        help=f"{listed(FORMATS)}.",
    ),
    cloup.option(
        "--out",
        type=FILE,
        required=True,
        metavar="./export",
        help="Folder to write into; there is none yet, or it is empty.",
    ),
    cloup.option(
        "--force",
        is_flag=True,
        default=None,
        help="Replace an export that is there; write beyond the budget.",
    ),
    cloup.option(
        "--scales",
        metavar="fp16",
        shell_complete=completing(SCALES),
        help=f"Type of scales, where a format has both: {listed(SCALES)}.",
    ),
)
@cloup.option_group(
    "Where cells have to be made",
    data,
    cloup.option(
        "--model",
        metavar="./llava-1.5-7b",
        help="Another than the plan's; of another tool's file.",
    ),
    cloup.option("--task", metavar="vqav2", help="Of a plan that names none."),
    device,
    memory,
)
@as_json
def export(
    name: str | None, fmt: str, out: Path, as_json: bool, **options: Any
) -> None:
    """Write a recommendation as a checkpoint that a runtime loads.

    What was written is loaded again and compared before it takes its place.
    """
    given = given_of(options)
    source = _source(name, given)
    from allocator.exporters._request import export_from
    from allocator.report.progress import Bars
    from allocator.report.text_export import print_export

    found = export_from(source, fmt, out, given, Bars())
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_export(found)


def _source(name: str | None, given: dict[str, Any]) -> Source:
    """What is exported; its options are taken out of those that were given.

    Raises:
        AllocateError: not exactly one source; a study that does not exist.
    """
    plan, trial = given.pop("plan", None), given.pop("trial", None)
    storage = given.pop("storage", None)
    if (name is None) == (plan is None):
        both = "neither" if name is None else "both"
        raise SpecError(
            f"export takes the name of a study, or --plan FILE, and has {both}"
        )
    if plan is not None and trial is not None:
        raise SpecError("a trial is one of a study's, and this is a plan file")
    from allocator.exporters import _making as making

    if plan is not None:
        return partial(making.export_of_plan, plan)
    journal = journal_of(str(name), storage)
    if trial is not None:
        return partial(making.export_of_trial, journal, trial)
    return partial(making.export_of_study, journal, None)
