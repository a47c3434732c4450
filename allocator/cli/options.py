"""Options that commands share, and how they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from allocator.core.allocation import GROUP_SIZES, SCOPES, WIDTHS
from allocator.core.errors import SpecError
from allocator.core.plugins import available
from allocator.core.spec import GRANULARITIES
from allocator.core.study import JOINED

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_MODEL = "tiny-blip2"


class Words(click.ParamType[Any]):
    """A comma-separated list, each word once."""

    name = "a,b,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Split at commas."""
        del param, ctx
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(word.strip() for word in str(value).split(",")))


class Widths(Words):
    """A comma-separated list of bit widths."""

    name = "2,3,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        """Read whole numbers, in rising order."""
        words = super().convert(value, param, ctx)
        allowed = ", ".join(map(str, WIDTHS))
        try:
            return tuple(sorted(int(word) for word in words))
        except ValueError:
            self.fail(f"{value!r} is not a list of widths; widths are {allowed}")


class GroupSize(click.ParamType[Any]):
    """A number of columns, "channel" or "tensor"."""

    name = "|".join(map(str, GROUP_SIZES))

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        """Read a number where it is one."""
        del param, ctx
        return int(value) if str(value).isdigit() else str(value)


class Duration(click.ParamType[Any]):
    """A time such as 90, 90s, 20m, 1.5h or 30d."""

    name = "20m"
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # noqa: RUF012, a constant table

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Read seconds."""
        del param, ctx
        if isinstance(value, float):
            return value
        text = str(value).strip()
        unit = self.units.get(text[-1:].lower(), 0)
        try:
            return float(text[:-1]) * unit if unit else float(text)
        except ValueError:
            self.fail(f"{value!r} is not a time such as 90s, 20m or 1.5h")


def include_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --include."""
    return click.option(
        "--include", type=Words(), help="Also in groups: head, embeddings, or both."
    )(command)


def model_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --model."""
    return click.option(
        "--model",
        default=None,
        metavar="NAME|FOLDER|HUB/ID",
        help=f"Embedded model, model folder or hub id.  [default: {DEFAULT_MODEL}]",
    )(command)


class Fraction(click.ParamType[Any]):
    """A share above 0, up to 1."""

    name = "0.1"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Read a number."""
        del param, ctx
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is not a fraction such as 0.1")


def task_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what is asked of the model."""
    for option in (
        click.option("--task", help=f"{', '.join(available('evals.tasks'))}."),
        click.option(
            "--task-set", type=Words(), help="Several tasks in one: vqav2,coco"
        ),
        click.option(
            "--data", metavar="DIR", help="Folder with the task's official files."
        ),
        click.option(
            "--fraction",
            type=Fraction(),
            help="Share of the published evaluation set.  [default: as published]",
        ),
        click.option(
            "--subset",
            metavar="NAME",
            help="Published set: karpathy, val2014, val2017 for coco.",
        ),
    )[::-1]:
        command = option(command)
    return command


def goal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say what a search is for."""
    for option in (
        click.option(
            "--budget", metavar="BPW|SIZE", help="4.0, or a size such as 3.5GiB."
        ),
        click.option(
            "--front", is_flag=True, default=None, help="The best at every size."
        ),
        click.option(
            "--min-score",
            type=Fraction(),
            help="The smallest that keeps this share of full precision's score.",
        ),
    )[::-1]:
        command = option(command)
    return command


def search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say how a search goes about it."""
    strategies = ", ".join(available("allocator.strategies"))
    for option in (
        click.option("--strategy", help=f"{strategies}.  [default: surrogate]"),
        click.option(
            "--trials", type=int, help="Proposals to measure in full.  [default: 20]"
        ),
        click.option(
            "--time", "seconds", type=Duration(), help="Stop proposing after it."
        ),
        click.option(
            "--rungs/--no-rungs",
            default=None,
            help="Look at many on few samples first.  [default: rungs]",
        ),
        click.option(
            "--narrowing/--no-narrowing",
            default=None,
            help="Leave alone what hardly matters.  [default: narrowing]",
        ),
        click.option(
            "--finalize/--no-finalize",
            default=None,
            help="Quantize the winner again, in sequence.  [default: finalize]",
        ),
        click.option(
            "--cache-memory",
            metavar="SIZE",
            help="For encoded images.  [default: 256MiB]",
        ),
    )[::-1]:
        command = option(command)
    return command


def decoding_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that decide how a model replies or ranks."""
    beams = "Beam width of replies.  [default: 1]"
    rerank = "Candidates the matching head ranks again.  [default: 128]"
    command = click.option("--rerank", type=int, help=rerank)(command)
    return click.option("--beams", type=int, help=beams)(command)


def joined_task(given: dict[str, Any]) -> dict[str, Any]:
    """Options in which --task-set has become a task.

    Raises:
        SpecError: both --task and --task-set.
    """
    names = given.pop("task_set", None)
    if names is None:
        return given
    if "task" in given:
        raise SpecError("--task and --task-set name the task twice; give one")
    return {**given, "task": JOINED.join(names)}


def scheme_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that decide what is quantized and how."""
    for option in (
        click.option("--methods", type=Words(), help="uniform,gptq,awq, or some."),
        click.option("--widths", type=Widths(), help="Of 2,3,4,5,6,8,16."),
        click.option("--group-size", type=GroupSize(), help="Columns to a scale."),
        click.option("--symmetric", is_flag=True, default=None, help="No zero-points."),
        click.option("--granularity", metavar="|".join(GRANULARITIES)),
        include_option,
        click.option("--budget-scope", metavar="|".join(SCOPES)),
    ):
        command = option(command)
    return command


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that decide where a study lives."""
    command = calibration_option(command)
    command = storage_option(command)
    return click.option("--seed", type=int, help="Of everything random.")(command)


def calibration_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --calibration."""
    return click.option(
        "--calibration", type=int, help="Samples that quantize.  [default: 128]"
    )(command)


storage_option = click.option(
    "--storage", metavar="URL", help="Database URL, or FILE.log."
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object."
)
