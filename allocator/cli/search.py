"""`allocate` itself: a search, and where all commands hang."""

from __future__ import annotations

import json
import shlex
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import cloup

from allocator.cli.bank import bank
from allocator.cli.debug import debug, tell, with_debug
from allocator.cli.echo import echo
from allocator.cli.example import example
from allocator.cli.explain import dashboard, explain, report
from allocator.cli.export import export
from allocator.cli.model import doctor, evaluate, inspect
from allocator.cli.options import (
    CONTEXT,
    FILE,
    as_json,
    dry_run,
    given_of,
    goal_options,
    joined_task,
    scheme_options,
    search_options,
    storage,
    storage_timeout,
    study,
    task_options,
)
from allocator.cli.processes import led_on, process_options, workers_on
from allocator.cli.replay import replay
from allocator.cli.studies import studies
from allocator.cli.worker import worker
from allocator.core.errors import (
    AllocateError,
    NotReachedError,
    SpecError,
    StorageError,
    first_line,
)
from allocator.core.full import machine_fault
from allocator.core.masking import HIDDEN, masked
from allocator.core.waiting import heeding
from allocator.core.watch import Heard
from allocator.search.crew.devices import read_devices
from allocator.search.request import read_request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.clock import Clock
    from allocator.core.study import StudySpec

INTERRUPTED, FAULT = 130, 1


class Guarded(cloup.Group):
    """Turns every error into one sentence and its exit code."""

    def add_command(self, cmd: click.Command, *args: Any, **more: Any) -> None:
        """Add a command, which has --debug like all others."""
        with_debug(cmd)
        super().add_command(cmd, *args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; errors become a sentence on stderr."""
        try:
            with heeding(lambda sentence: tell(ctx, sentence)):
                return super().invoke(ctx)
        except AllocateError as error:
            _tell_with_command(ctx, error)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            kept = "allocate: interrupted; everything finished is kept. Go on with"
            echo(*f"{kept}{same_command()}".split("\n", 1), err=True)
            sys.exit(INTERRUPTED)
        except click.ClickException as error:
            vars(error)["message"] = masked(error.message)
            raise
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            # whoever read our output has left: click knows what to do
            raise
        except Exception as error:
            if told := machine_fault(error):
                tell(ctx, told)
                sys.exit(AllocateError.exit_code)
            tell(
                ctx,
                f"{type(error).__name__}: {first_line(error)}; this is a fault of "
                "allocate's own, please report it with what --debug shows",
            )
            sys.exit(FAULT)


def _tell_with_command(ctx: click.Context, error: AllocateError) -> None:
    """Tell an error, and the command where that goes on once a storage works."""
    tell(ctx, str(error))
    if isinstance(error, StorageError):
        echo(*f"allocate: go on with{same_command()}".split("\n", 1), err=True)


def same_command() -> str:
    """The command that was given, without passwords."""
    words = sys.argv[1:]
    shown = [masked(word) for word in words]
    note = f" (with its password in place of {HIDDEN})" if shown != words else ""
    return f"{note}:\n  {shlex.join(['allocate', *shown])}"


EXAMPLES = """\b
Examples:
  allocate --budget 4.0 --task vqav2
  allocate --budget 3.5GiB --task vqav2 --model ./llava-1.5-7b --data ./data
  allocate --front --task vqav2
  allocate --min-score 0.98 --task vqav2
  allocate --budget 4.0 --task-set vqav2,coco
  allocate --budget 5 --task vqav2 --methods gptq --widths 4,8 --trials 8
  allocate --budget 4.0 --task own --data ./shop --model ./llava-1.5-7b
  allocate --budget 9 --task vqav2 --pin 'vision.*=16'
  allocate --spec study.toml --seed 1
"""
SECTIONS = (
    cloup.Section("Before a search", [example, inspect, evaluate, bank, doctor]),
    cloup.Section("After it", [studies, explain, report, dashboard, export]),
    cloup.Section("Beside it", [worker]),
    cloup.Section("Tables of measurements", [replay]),
)


@cloup.group(
    cls=Guarded,
    invoke_without_command=True,
    context_settings=CONTEXT,
    epilog=EXAMPLES,
    sections=SECTIONS,
)
@goal_options
@task_options
@scheme_options
@search_options
@process_options
@cloup.option_group(
    "Where it is kept",
    study,
    storage,
    storage_timeout,
    cloup.option(
        "--spec",
        "spec_file",
        type=FILE,
        metavar="study.toml",
        help="A study written as TOML; options come before what it says.",
    ),
)
@cloup.option_group(
    "Output",
    dry_run,
    as_json,
    debug,
    cloup.version_option(package_name="allocate-vlm"),
    cloup.help_option("-h", "--help"),
)
@click.pass_context
def main(
    ctx: click.Context,
    /,
    spec_file: Path | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Decide how many bits each part of a vision-language model gets.

    With a goal and a task it searches, and recommends an allocation.
    """
    given = joined_task(given_of(options))
    if ctx.invoked_subcommand is not None:
        if given or spec_file or dry_run:
            names = ", ".join(sorted(given)) or ("spec" if spec_file else "dry_run")
            raise SpecError(
                f"options before {ctx.invoked_subcommand!r} ({names}) belong to a "
                "search; put the command's own options behind its name"
            )
        return
    if not given and spec_file is None:
        click.echo(ctx.get_help())
        return
    devices = read_devices(given.pop("devices", ""))
    asked = read_request(led_on(devices, given), spec_file)
    _foresee(asked, as_json) if dry_run else _search(asked, as_json, devices)


def _foresee(asked: StudySpec, as_json: bool) -> None:
    from allocator.core.clock import Clock

    clock = Clock()
    from allocator.bench.loading import open_full_precision
    from allocator.bench.prepare import prepare
    from allocator.report.progress import Bars
    from allocator.report.text_forecast import print_outlook
    from allocator.search.outlook import foreseen, outlook

    setup = prepare(asked, watch=Bars())
    needs = foreseen(setup)
    found = outlook(setup, needs, open_full_precision(setup), clock)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        print_outlook(found)


def _search(asked: StudySpec, as_json: bool, devices: Sequence[str]) -> None:
    from allocator.core.clock import Clock
    from allocator.search.estimate import estimate

    clock = Clock()
    if told := estimate(asked):
        echo(told.sentence, err=True)
    # torch comes with what follows, and the estimate should not wait for it
    from allocator.bench.prepare import prepare
    from allocator.report.progress import Bars

    bars = Heard(Bars())
    with heeding(bars.say, partial(_check_time, asked.seconds, clock)):
        setup = prepare(asked, watch=bars)
        from allocator.report.text_search import headline, print_recommendation
        from allocator.search.run import run_prepared

        echo(headline(asked), err=True)
        found = run_prepared(setup, bars, clock, workers_on(devices, bars))
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        print_recommendation(found.to_json())


def _check_time(seconds: float | None, clock: Clock) -> None:
    """End a search whose time is over while it waits for a file.

    Raises:
        NotReachedError: it is.
    """
    if seconds is not None and clock.seconds > seconds:
        raise NotReachedError(
            f"--time {seconds:g}s is over, and a file does not answer; what was "
            "measured is kept, and the same command goes on from there"
        )
