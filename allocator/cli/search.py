"""The command line. Heavy libraries are imported inside the commands."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from allocator.cli.bank import bank
from allocator.cli.explain import dashboard, explain, journal_of, report
from allocator.cli.options import (
    DEFAULT_MODEL,
    decoding_options,
    goal_options,
    joined_task,
    json_option,
    model_option,
    scheme_options,
    search_options,
    storage_option,
    study_options,
    task_options,
)
from allocator.cli.replay import replay
from allocator.core.errors import AllocateError, SpecError
from allocator.search.request import read_request, sizes_request

if TYPE_CHECKING:
    from allocator.core.study import StudySpec

INTERRUPTED = 130


class Guarded(click.Group):
    """Turns every error a user can cause into one sentence and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; known errors become a sentence on stderr."""
        try:
            return super().invoke(ctx)
        except AllocateError as error:
            click.echo(f"allocate: {error}", err=True)
            sys.exit(error.exit_code)
        except OSError as error:
            # whoever read our output has left: click knows what to do
            if error.filename is None:
                raise
            click.echo(f"allocate: {error.filename}: {error.strerror}", err=True)
            sys.exit(AllocateError.exit_code)
        except KeyboardInterrupt:
            again = shlex.join(["allocate", *sys.argv[1:]])
            click.echo(
                "allocate: interrupted; everything finished is kept. Go on with:\n"
                f"  {again}",
                err=True,
            )
            sys.exit(INTERRUPTED)


@click.group(cls=Guarded, invoke_without_command=True)
@click.version_option(package_name="allocate-vlm")
@goal_options
@task_options
@model_option
@decoding_options
@scheme_options
@search_options
@click.option("--study", metavar="NAME", help="Name of the study.")
@study_options
@click.option("--device", help="auto, cpu, cuda, cuda:1  [default: auto]")
@click.option("--spec", "spec_file", type=Path, help="A study written as TOML.")
@json_option
@click.pass_context
def main(
    ctx: click.Context, /, spec_file: Path | None, as_json: bool, **options: Any
) -> None:
    """Decide how many bits each part of a vision-language model gets.

    With --budget and --task (or --spec) it searches and recommends an allocation:

        allocate --budget 4.0 --task vqav2
    """
    given = joined_task(_given(options))
    if ctx.invoked_subcommand is not None:
        if given or spec_file:
            names = ", ".join(sorted(given)) or "spec"
            raise SpecError(
                f"options before {ctx.invoked_subcommand!r} ({names}) belong to a "
                "search; put the command's own options behind its name"
            )
        return
    if not given and spec_file is None:
        click.echo(ctx.get_help())
        return
    _search(read_request(given, spec_file), as_json)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _search(asked: StudySpec, as_json: bool) -> None:
    from allocator.core.clock import Clock
    from allocator.search.estimate import estimate

    clock = Clock()
    if told := estimate(asked):
        click.echo(told.sentence, err=True)
    # torch comes with what follows, and the estimate should not wait for it
    from allocator.bench.prepare import prepare

    setup = prepare(asked)
    from allocator.report.progress import Bars
    from allocator.report.text_search import headline, print_recommendation
    from allocator.search.run import run_prepared

    click.echo(headline(asked), err=True)
    found = run_prepared(setup, Bars(), clock)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        print_recommendation(found.to_json())


@main.command()
@model_option
@click.option("--task", help="The checkpoint that does this task, of a model with two.")
@scheme_options
@json_option
def inspect(as_json: bool, model: str | None, task: str | None, **options: Any) -> None:
    """Show a model's groups, sizes, and the smallest possible budget."""
    from allocator.report.inspection import inspect_model, print_inspection

    asked = sizes_request({"model": model or DEFAULT_MODEL, **_given(options)})
    found = inspect_model(asked, task)
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_inspection(found)


@main.command()
@model_option
@task_options
@click.option("--plan", type=Path, help="A plan file; without one, full precision.")
@decoding_options
@click.option("--device", help="auto, cpu, cuda, cuda:1  [default: auto]")
@click.option("--seed", type=int, help="Of the samples.  [default: the plan's, or 0]")
@json_option
def evaluate(as_json: bool, plan: Path | None, **options: Any) -> None:
    """Score a model on the evaluation set, at full precision or under a plan."""
    from allocator.bench.evaluate import evaluate_model
    from allocator.report.progress import Bars
    from allocator.report.text_search import print_evaluation

    found = evaluate_model(joined_task(_given(options)), plan, Bars())
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_evaluation(found)


@main.group()
def studies() -> None:
    """List and show the studies on disk."""


@studies.command("list")
@storage_option
@json_option
def list_studies(storage: str | None, as_json: bool) -> None:
    """List all studies."""
    from allocator.study.storage import study_names

    names = study_names(storage)
    if as_json:
        click.echo(json.dumps(names))
    else:
        click.echo("\n".join(names) or "no studies yet: allocate --budget 4.0 ...")


@studies.command("show")
@click.argument("name")
@storage_option
@json_option
def show_study(name: str, storage: str | None, as_json: bool) -> None:
    """Show a study's latest recommendation."""
    from allocator.report.text_search import print_recommendation

    found = _kept(name, storage)["found"]
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_recommendation(found)


@main.command()
@click.argument("name")
@click.option("--format", "fmt", required=True, help="plan")
@click.option("--out", type=Path, required=True, help="Folder to write into.")
@storage_option
def export(name: str, fmt: str, out: Path, storage: str | None) -> None:
    """Write a study's recommendation in a format that something else reads."""
    from allocator.core.plugins import load

    exporter = load("allocator.exporters", fmt, "export format")
    written = exporter.write(_kept(name, storage)["plan"], out)
    click.echo(str(written))


@main.command()
@json_option
def doctor(as_json: bool) -> None:
    """Show what is installed, which device is here, which formats can be written."""
    from allocator.report.doctor import examine, print_examination

    found = examine()
    if as_json:
        click.echo(json.dumps(found))
    else:
        print_examination(found)


for command in (bank, dashboard, explain, replay, report):
    main.add_command(command)


def _kept(name: str, storage: str | None) -> dict[str, Any]:
    from allocator.study.recommendations import recommendation

    return recommendation(journal_of(name, storage))


if __name__ == "__main__":
    main()
