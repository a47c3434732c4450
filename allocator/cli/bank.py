"""The commands `allocate bank ...`."""

from __future__ import annotations

import json
from typing import Any

import click

from allocator.cli.options import (
    DEFAULT_MODEL,
    Duration,
    GroupSize,
    Widths,
    Words,
    calibration_option,
    include_option,
    json_option,
    model_option,
)
from allocator.core.errors import BankError
from allocator.core.study import StudySpec


@click.group()
def bank() -> None:
    """Build, check and clean up banks of quantized weights."""


@bank.command()
@model_option
@click.option("--task", required=True, help="Its training images calibrate.")
@click.option("--data", metavar="DIR", help="Folder with the task's official files.")
@click.option("--methods", type=Words(), help="uniform,gptq,awq, or some.")
@click.option("--widths", type=Widths(), help="Of 2,3,4,5,6,8.")
@click.option("--group-size", type=GroupSize(), help="Columns to a scale.")
@click.option("--symmetric", is_flag=True, default=None, help="No zero-points.")
@include_option
@calibration_option
@click.option("--seed", type=int, help="Of the calibration samples.")
@click.option("--device", help="auto, cpu, cuda, cuda:1  [default: auto]")
@json_option
def build(as_json: bool, model: str | None, **options: Any) -> None:
    """Make every cell that a model's bank lacks; checks those it has.

    Searches with the same model, task, data, seed and scheme find it.
    """
    from allocator.bench.banks import build_bank_of
    from allocator.report.progress import Bars
    from allocator.report.text_banks import print_build

    given = {key: value for key, value in options.items() if value is not None}
    # a budget that everything fits: a bank serves every budget
    asked = StudySpec(budget="16", model=model or DEFAULT_MODEL, **given)
    found = build_bank_of(asked, Bars())
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_build(found)


@bank.command()
@json_option
def verify(as_json: bool) -> None:
    """Compare every cell of every bank with its checksum; changes nothing."""
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
@click.option(
    "--unused",
    type=Duration(),
    metavar="30d",
    help="Also remove banks that no run has opened for so long.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def gc(as_json: bool, unused: float | None, dry_run: bool) -> None:
    """Remove what no run can use: drafts, and cells of methods that have changed."""
    from allocator.bench.banks import collect_garbage
    from allocator.report.text_banks import print_garbage

    found = collect_garbage(unused, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_garbage(found)
