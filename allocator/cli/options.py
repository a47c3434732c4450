"""Options that commands share, in the groups that --help shows, and how they are read.

A metavar is a value that can be typed as it stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import cloup

from allocator.cli.own import own_options
from allocator.cli.values import (
    Duration,
    Fraction,
    GroupSize,
    Widths,
    Words,
    completing,
    folders,
    listed,
)
from allocator.core.allocation import GROUP_SIZES, SCOPES, WIDTHS
from allocator.core.errors import SpecError
from allocator.core.plugins import available
from allocator.core.spec import EXTRAS, GRANULARITIES
from allocator.core.study import JOINED, TUNE_STEPS
from allocator.core.targets import TARGETS

DEFAULT_MODEL = "tiny-blip2"
# on a terminal of 80 columns: names in a column of their own, no blank lines between
LAYOUT = cloup.HelpFormatter.settings(max_width=96, col1_max_width=30)
CONTEXT = cloup.Context.settings(
    formatter_settings=LAYOUT, help_option_names=["-h", "--help"]
)


def forgetting(ctx: Any, param: Any, value: bool) -> None:
    """Have every file read again."""
    del ctx, param
    if value:
        from allocator.bench.contents import forget

        forget()


# a file that need not be there: who reads it says what is wrong with it
FILE = click.Path(path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
TASKS = available("evals.tasks")

budget = cloup.option(
    "--budget", metavar="4.0", help="Bits per weight, or a size such as 3.5GiB."
)
front = cloup.option(
    "--front", is_flag=True, default=None, help="The best at every size."
)
min_score = cloup.option(
    "--min-score",
    type=Fraction(),
    metavar="0.98",
    help="The smallest that keeps this share of full precision's score.",
)
confidence = cloup.option(
    "--confidence",
    type=Fraction(),
    metavar="0.9",
    help="Probability that --min-score is kept.  [default: 0.95]",
)
model = cloup.option(
    "--model",
    shell_complete=folders,
    metavar="./llava-1.5-7b",
    help="Embedded model (tiny-blip2, tiny-llava), model folder or hub id.  "
    f"[default: {DEFAULT_MODEL}]",
)
task = cloup.option(
    "--task",
    shell_complete=completing(TASKS),
    metavar="vqav2",
    help=f"{listed(TASKS)}, lmms:NAME.",
)
task_set = cloup.option(
    "--task-set", type=Words(), metavar="vqav2,coco", help="Several tasks in one."
)
data = cloup.option(
    "--data",
    shell_complete=folders,
    metavar="./data",
    help="Folder with the task's official files, your own file, or embedded.",
)
fraction = cloup.option(
    "--fraction",
    type=Fraction(),
    metavar="0.1",
    help="Share of the published evaluation set.  [default: as published]",
)
subset = cloup.option(
    "--subset",
    shell_complete=completing(("karpathy", "val2014", "val2017")),
    metavar="karpathy",
    help="Published set of coco: karpathy, val2014, val2017.",
)
beams = cloup.option(
    "--beams", type=int, metavar="5", help="Beam width of replies.  [default: 1]"
)
rerank = cloup.option(
    "--rerank",
    type=int,
    metavar="64",
    help="Candidates the matching head ranks again.  [default: 128]",
)
methods = cloup.option(
    "--methods",
    type=Words(),
    metavar="uniform,gptq,awq",
    help=f"Some of {listed(available('quant.methods'))}.",
)
widths = cloup.option(
    "--widths", type=Widths(), metavar="3,4,8", help=f"Some of {listed(WIDTHS)}."
)
group_size = cloup.option(
    "--group-size",
    type=GroupSize(),
    metavar="64",
    help=f"Columns to a scale: {listed(GROUP_SIZES)}.  [default: 128]",
)
symmetric = cloup.option(
    "--symmetric", is_flag=True, default=None, help="No zero-points."
)
target = cloup.option(
    "--target",
    shell_complete=completing(tuple(TARGETS)),
    metavar="mlx",
    help=f"Runtime to quantize for: {listed(TARGETS)}.  [default: none]",
)
granularity = cloup.option(
    "--granularity",
    shell_complete=completing(GRANULARITIES),
    metavar="block",
    help=f"One choice for each {listed(GRANULARITIES)}.  [default: type]",
)
include = cloup.option(
    "--include",
    type=Words(),
    metavar="head,embeddings",
    help=f"Also in groups: {listed(EXTRAS)}.",
)
budget_scope = cloup.option(
    "--budget-scope",
    shell_complete=completing(SCOPES),
    metavar="quantized",
    help=f"What a budget counts: {listed(SCOPES)}.  [default: model]",
)
pin = cloup.option(
    "--pin",
    multiple=True,
    default=None,
    metavar="'vision.*=8'",
    help="Keep groups that match at these bits, or at 4/gptq; repeatable.",
)
at_least = cloup.option(
    "--at-least",
    multiple=True,
    default=None,
    metavar="'language.end.*=3'",
    help="Groups that match get no fewer bits; repeatable.",
)
at_most = cloup.option(
    "--at-most",
    multiple=True,
    default=None,
    metavar="'connector.*=8'",
    help="Groups that match get no more bits; repeatable.",
)
calibration = cloup.option(
    "--calibration",
    type=int,
    metavar="64",
    help="Samples that quantize.  [default: 128]",
)
strategy = cloup.option(
    "--strategy",
    shell_complete=completing(available("allocator.strategies")),
    metavar="evolution",
    help=f"{listed(available('allocator.strategies'))}.  [default: surrogate]",
)
trials = cloup.option(
    "--trials",
    type=int,
    metavar="40",
    help="Proposals to measure in full.  [default: 20, 8 to 20 on a known study]",
)
time = cloup.option(
    "--time",
    "seconds",
    type=Duration(),
    metavar="20m",
    help="For the whole run: 90s, 20m, 1.5h.",
)
rungs = cloup.option(
    "--rungs/--no-rungs",
    default=None,
    help="Look at many on few samples first.  [default: rungs]",
)
narrowing = cloup.option(
    "--narrowing/--no-narrowing",
    default=None,
    help="Leave alone what hardly matters.  [default: narrowing]",
)
minimize = cloup.option(
    "--minimize/--maximize",
    default=None,
    help="Whether lower scores are better.  [default: by the column's name]",
)
finalize = cloup.option(
    "--finalize/--no-finalize",
    default=None,
    help="Quantize finalists again, in sequence.  [default: finalize]",
)
refine = cloup.option(
    "--refine/--no-refine",
    default=None,
    help="Let single linears differ.  [default: refine]",
)
race = cloup.option(
    "--race/--no-race",
    default=None,
    help="Stop what cannot win any more.  [default: race]",
)
tune = cloup.option(
    "--tune/--no-tune",
    default=None,
    help="Learn the rounding.  [default: below 0.1 B parameters]",
)
tune_steps = cloup.option(
    "--tune-steps",
    type=int,
    metavar="200",
    help=f"Steps of that for each block.  [default: {TUNE_STEPS}]",
)
candidates = cloup.option(
    "--candidate",
    "candidates",
    multiple=True,
    metavar="plan.json",
    help="An allocation that takes part; again for more.",
)
cache_memory = cloup.option(
    "--cache-memory",
    metavar="2GiB",
    help="For states between blocks.  [default: 256MiB]",
)
memory = cloup.option(
    "--memory",
    metavar="8GiB",
    help="Of this machine, for this process.  [default: all of it, or its container's]",
)
seed = cloup.option(
    "--seed", type=int, metavar="1", help="Of everything random.  [default: 0]"
)
device = cloup.option(
    "--device",
    shell_complete=completing(("auto", "cpu", "cuda")),
    metavar="cuda:1",
    help="auto, cpu, cuda, cuda:1.  [default: auto]",
)
rehash = cloup.option(
    "--rehash",
    is_flag=True,
    expose_value=False,
    callback=forgetting,
    help="Read all pictures and weights again.",
)
study = cloup.option(
    "--study", metavar="my-study", help="Name of the study.  [default: by what it asks]"
)
storage = cloup.option(
    "--storage",
    metavar="sqlite:///my.db",
    help="Database URL, or FILE.log.  [default: the user's data folder]",
)
storage_timeout = cloup.option(
    "--storage-timeout",
    type=Duration(),
    metavar="10m",
    help="How long to wait while another program locks it.  [default: 60s]",
)
dry_run = cloup.option(
    "--dry-run", is_flag=True, help="Only say what it would do and take, here."
)
as_json = cloup.option("--json", "as_json", is_flag=True, help="Print one JSON object.")

goal_options = cloup.option_group(
    "Goal, one of them", budget, front, min_score, confidence
)
task_options = cloup.option_group(
    "Model and data",
    *(model, task, task_set, data, fraction, subset, *own_options),
    *(beams, rerank, rehash),
)
scheme_options = cloup.option_group(
    "What may be quantized, and how",
    *(methods, widths, group_size, symmetric, target, granularity, include),
    *(budget_scope, pin, at_least, at_most),
)
bank_options = cloup.option_group(
    "What may be quantized, and how",
    *(methods, widths, group_size, symmetric, target, include, calibration),
)
search_options = cloup.option_group(
    "Search",
    *(strategy, trials, time, rungs, narrowing, finalize, refine, tune, tune_steps),
    *(race, candidates, cache_memory, memory, calibration, seed, device),
)


def given_of(options: dict[str, Any]) -> dict[str, Any]:
    """Options that were given: none of them has a default, or can be empty."""
    return {key: v for key, v in options.items() if v is not None and v != ()}


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
