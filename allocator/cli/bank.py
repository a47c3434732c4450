"""The commands `allocate bank ...`."""

from __future__ import annotations

import json
from typing import Any

import click
import cloup

from allocator.cli.options import (
    CONTEXT,
    DEFAULT_MODEL,
    as_json,
    bank_options,
    data,
    device,
    given_of,
    memory,
    model,
    rehash,
    seed,
)
from allocator.cli.own import own_options
from allocator.cli.values import Duration
from allocator.core.errors import BankError
from allocator.core.study import StudySpec


@cloup.group(context_settings=CONTEXT)
def bank() -> None:
    """Build, check and clean up banks of quantized weights."""


@bank.command()
@cloup.option_group(
    "Model and data",
    model,
    cloup.option(
        "--task", required=True, metavar="vqav2", help="Its training images calibrate."
    ),
    *(data, *own_options),
    rehash,
)
@bank_options
@seed
@device
@memory
@as_json
def build(as_json: bool, model: str | None, **options: Any) -> None:
    """Make every cell that a model's bank lacks; checks those it has.

    Searches with the same model, task, data, seed and scheme find it.
    """
    from allocator.bench.banks import build_bank_of
    from allocator.report.progress import Bars
    from allocator.report.text_banks import print_build

    given = given_of(options)
    # a budget that everything fits: a bank serves every budget
    named = DEFAULT_MODEL if model is None else model
    asked = StudySpec.read({"budget": "16", "model": named, **given})
    found = build_bank_of(asked, Bars())
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_build(found)


@bank.command()
@as_json
def verify(as_json: bool) -> None:
    """Compare every cell, finalized ones too, with its checksum."""
    from allocator.bench.banks import verify_banks
    from allocator.report.progress import Bars
    from allocator.report.text_banks import print_verification

    found = verify_banks(Bars())
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_verification(found)
    if found["damaged"]:
        raise BankError(
            f"{found['damaged']} of {found['cells']} cells are damaged or missing; "
            "the next run that needs them makes them again"
        )


@bank.command()
@cloup.option(
    "--unused",
    type=Duration(),
    metavar="30d",
    help="Also remove banks that no run has opened for so long.",
)
@cloup.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@as_json
def gc(as_json: bool, unused: float | None, dry_run: bool) -> None:
    """Remove what no run can use: drafts and outdated cells."""
    from allocator.bench.banks import collect_garbage
    from allocator.report.text_banks import print_garbage

    found = collect_garbage(unused, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_garbage(found)
