"""The commands that look at a model or at this machine: inspect, evaluate, doctor."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
import cloup

from allocator.cli.options import (
    CONTEXT,
    DEFAULT_MODEL,
    FILE,
    as_json,
    device,
    given_of,
    joined_task,
    memory,
    model,
    scheme_options,
    task_options,
)
from allocator.search.request import sizes_request

if TYPE_CHECKING:
    from pathlib import Path


@cloup.command(context_settings=CONTEXT)
@model
@cloup.option(
    "--task",
    metavar="flickr30k",
    help="The checkpoint that does this task, of a model with two.",
)
@cloup.option(
    "--prompt",
    is_flag=False,
    flag_value="",
    metavar="['Question: {question}']",
    help="Also how it is asked, exactly as the model gets it; or how it is asked that.",
)
@scheme_options
@as_json
def inspect(
    as_json: bool,
    model: str | None,
    task: str | None,
    prompt: str | None,
    **options: Any,
) -> None:
    """Show a model's groups, sizes, and the smallest possible budget."""
    from allocator.report.inspection import inspect_model
    from allocator.report.progress import Bars
    from allocator.report.text_inspection import print_inspection

    named = DEFAULT_MODEL if model is None else model
    asked = sizes_request({"model": named, **given_of(options)})
    shown = False if prompt is None else prompt or True
    found = inspect_model(asked, task, prompt=shown, watch=Bars())
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_inspection(found)


@cloup.command(context_settings=CONTEXT)
@task_options
@cloup.option(
    "--plan",
    type=FILE,
    metavar="plan.json",
    help="A plan, or another tool's file; without one, the model as it is.",
)
@device
@memory
@cloup.option(
    "--seed",
    type=int,
    metavar="1",
    help="Of the samples.  [default: the plan's, or 0]",
)
@cloup.option(
    "--agreement",
    is_flag=True,
    help="Also how often a plan's replies are those of full precision, asked too.",
)
@as_json
def evaluate(as_json: bool, plan: Path | None, agreement: bool, **options: Any) -> None:
    """Score a model as it is, quantized ones too, or under a plan."""
    from allocator.bench.evaluate import evaluate_model
    from allocator.report.progress import Bars
    from allocator.report.text_search import print_evaluation

    given = joined_task(given_of(options))
    found = evaluate_model(given, plan, Bars(), agreement=agreement)
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_evaluation(found)


@cloup.command(context_settings=CONTEXT)
@as_json
def doctor(as_json: bool) -> None:
    """Show what is installed, devices, formats, folders."""
    from allocator.report.doctor import examine, print_examination

    found = examine()
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_examination(found)
