"""Bits and method for every part of a vision-language model, under a budget.

The commands as functions, with the same defaults, checks and sentences (raised as
exceptions). Everything heavy is imported when it is first asked for.

    import allocator

    found = allocator.allocate(budget=4.0, task="vqav2")
    model, processor = allocator.load(found)

None stands for what is not given. Wrong requests are an AllocateError of one sentence,
in the words of the commands; that and the other classes (Allocation, Choice,
Recommendation, Study, StudySpec, ...) are names of this package too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os

    from allocator.core.watch import Watch
    from allocator.report.notebook import Recommendation
    from allocator.report.study import Study
    from allocator.tables.replay import Replay

    PathLike = str | os.PathLike[str]

__all__ = ["allocate", "evaluate", "export", "inspect", "load", "open_study", "replay"]

# classes that the functions take, give and raise, by the file that has them
_HOMES = {
    **dict.fromkeys(("Allocation", "Choice"), "allocator.core.allocation"),
    **dict.fromkeys(
        (
            *("AllocateError", "BankError", "BudgetError", "DataError", "ModelError"),
            *("NotReachedError", "SpecError", "StudyError", "UnknownNameError"),
        ),
        "allocator.core.errors",
    ),
    "Recommendation": "allocator.report.notebook",
    "Replay": "allocator.tables.replay",
    "Study": "allocator.report.study",
    "StudySpec": "allocator.core.study",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'allocator' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *_HOMES})


def allocate(
    budget: float | str | None = None,
    task: str | None = None,
    *,
    spec: PathLike | None = None,
    progress: bool = True,
    **options: Any,
) -> Recommendation:
    """Find the best allocation within a budget, and keep everything measured.

    The command `allocate --budget 4.0 --task vqav2`. Asked again, only what is missing
    is done; a run that was stopped goes on.

    Args:
        budget: bits per weight, 4.0, or a size, "3.5GiB".
        task: such as "vqav2", "own" or "lmms:NAME", or a list of several.
        spec: a study written as TOML; what is given here comes before what it says.
        progress: whether to show how far it is.
        **options: any other field of `StudySpec`, such as model, data, methods, widths,
            granularity, strategy, trials, seconds, study, storage, device, seed; pin,
            at_least and at_most, such as pin=["vision.*=16", "language.*=4/gptq"]; or,
            in place of a budget, front=True or min_score=0.98.

    Returns:
        What is recommended, measured on the evaluation set: its `score` with a 95 %
        interval in the metric's unit, `bpw` in bits per weight, the `allocation` of
        bits and method to every group.

    Raises:
        AllocateError: an impossible request, in one sentence, before anything heavy is
            loaded.
        NotReachedError: a `min_score` that nothing measured keeps.

    Example:
        found = allocator.allocate(budget=4.0, task="vqav2", model="tiny-llava")
        found.score.mean, found.score.ci95, found.bpw
        found.allocation["language.front.attn"].bits
    """
    from allocator.report.notebook import Recommendation
    from allocator.search.estimate import estimate
    from allocator.search.request import read_request
    from allocator.search.run import run

    given = _given({"budget": budget, "task": task, **options})
    asked, watch = read_request(given, _path(spec)), _watch(progress)
    if told := estimate(asked):
        watch.say(told.sentence)
    return Recommendation.of(run(asked, watch))


def open_study(name: str, storage: str | None = None) -> Study:
    """Open a study that is on disk, finished or not.

    Args:
        name: as `Recommendation.study` or `allocate studies list` have it.
        storage: URL or FILE.log; None is the default storage.

    Returns:
        Its `trials_dataframe()`, `front()`, `importance()`, `explain()`,
        `report("x.html")`, and as `optuna` the study itself.

    Raises:
        StudyError: there is none of that name; names those there are.

    Example:
        study = allocator.open_study(found.study)
        study.front()[0]["bpw"]
    """
    from allocator.report.study import Study

    return Study.open(name, storage)


def load(
    source: Recommendation | Study | PathLike,
    *,
    progress: bool = True,
    **options: Any,
) -> tuple[Any, Any]:
    """A transformers model with recommended weights in place, and its processor.

    The weights are those that were measured: cells of the bank, or finalized ones, in
    the type the checkpoint has (quantized, then decoded).

    Args:
        source: a recommendation, a study (its latest recommendation), or a plan file
            (or its folder), written by `allocate export --format plan` or by hand.
        progress: whether to show how far it is, where cells have to be made.
        **options: of a plan file's model: model, data, device; of a study: device.

    Returns:
        The model, in evaluation mode on the device, and what makes its inputs of
        pictures and texts.

    Raises:
        AllocateError: a study, plan, model or weights that cannot be had.

    Example:
        model, processor = allocator.load(found, device="cpu")
        model, processor = allocator.load("plan.json")
    """
    from allocator.report.study import load_recommended

    return load_recommended(source, _given(options), _watch(progress))


def export(
    source: Recommendation | Study | PathLike,
    format: str,
    out: PathLike,
    *,
    trial: int | None = None,
    force: bool = False,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Write recommended weights as a checkpoint that a runtime loads.

    The command `allocate export`. What was written is loaded again and compared before
    it takes its place.

    Args:
        source: a recommendation, a study (its latest recommendation), or a plan file
            (or its folder).
        format: as `allocate doctor` lists them.
        out: the folder to write: new or empty.
        trial: number of a measured trial of a study; its score is not confirmed.
        force: replace an earlier export that is there; pass the study's budget.
        progress: whether to show how far it is.
        **options: scales, where a format has a choice; data and device, where cells
            have to be made; of a plan file: model, task.

    Returns:
        `path`; `bytes` on disk, as claimed; `bpw`; the `loader` that read it again; the
        largest differences of `weights`, in steps of their grids, and of `logits`, in
        parts of their range.

    Raises:
        AllocateError: what cannot be had, written or read again; nothing is left.

    Example:
        allocator.export(found, "plan", "best")["path"]
    """
    from allocator.report.study import export_recommended

    given = _given({"trial": trial, "force": force, **options})
    return export_recommended(source, format, out, given, _watch(progress))


def evaluate(
    model: str | None = None,
    task: str | None = None,
    *,
    plan: PathLike | None = None,
    agreement: bool = False,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Score a model on a task's evaluation set: as it is, or under a plan.

    The command `allocate evaluate`.

    Args:
        model: embedded model, folder or hub id; the plan's where None.
        task: as for `allocate`; the plan's where None.
        plan: a plan file; None scores full precision, or what an export has written.
        agreement: also how often a plan's replies are those of full precision.
        progress: whether to show how far it is.
        **options: data, fraction, subset, beams, rerank, device, seed.

    Returns:
        `score` in the unit of `metric` with `ci95`, `bpw` and `bpw_quantized` in bits
        per weight, `values`, those of each sample, and the `loader` of an export.

    Raises:
        AllocateError: a model, task, data folder or plan that cannot be had.

    Example:
        allocator.evaluate("tiny-llava", task="vqav2", plan="plan.json")["score"]
    """
    from allocator.bench.evaluate import OPTIONS, evaluate_model
    from allocator.core.study import check_options

    given = _given({"model": model, "task": task, **options})
    check_options(given, OPTIONS)
    watch = _watch(progress)
    return evaluate_model(given, _path(plan), watch, agreement=agreement)


def inspect(
    model: str = "tiny-blip2",
    *,
    task: str | None = None,
    prompt: bool | str = False,
    **options: Any,
) -> dict[str, Any]:
    """A model's groups and sizes, and the smallest budget, from its configuration.

    The command `allocate inspect`; no weights are read.

    Args:
        model: embedded model, folder or hub id.
        task: the checkpoint that does this task, of a model with two.
        prompt: whether to show how it is asked, too; or what it is asked.
        **options: methods, widths, group_size, symmetric, target, granularity,
            include, budget_scope, pin, at_least, at_most.

    Returns:
        `parameters` and `quantized_weights` in numbers, `groups`, what is `left_out`
        and why, what the `target` allows, sizes of each `uniform` width, and
        `smallest_bpw`; `prompts` by kind of question, as the model gets them.

    Raises:
        AllocateError: a model that cannot be had, or cannot do the task.

    Example:
        >>> import allocator
        >>> found = allocator.inspect("tiny-llava", granularity="component")
        >>> [group["key"] for group in found["groups"]]
        ['vision.all.all', 'connector.all.all', 'language.all.all']
    """
    from allocator.report.inspection import inspect_model
    from allocator.search.request import sizes_request

    asked = sizes_request(_given({"model": model, **options}))
    return inspect_model(asked, task, prompt=prompt)


def replay(
    table: PathLike,
    *,
    score: str,
    budget: float | str,
    bpw: str = "bpw",
    progress: bool = True,
    **options: Any,
) -> Replay:
    """Search a table of measurements as if each score had to be measured.

    The command `allocate replay`; no model is needed.

    Args:
        table: a CSV file, a row for each measured allocation.
        score: the column of scores.
        budget: bits per weight.
        bpw: the column of bits per weight.
        progress: whether to show how far it is.
        **options: trials (scores to read at most), seed, strategy, bits (names or
            patterns of the columns of groups), narrowing, minimize (whether a lower
            score is the better one; where not given, names like perplexity and loss
            say so).

    Returns:
        What was read, the `best` of it, its `front`, why it is so, `explained`, and
        `notes` on what was guessed or left out.

    Raises:
        AllocateError: a table, budget or strategy that cannot be used.

    Example:
        allocator.replay("table.csv", score="CIDEr", bpw="bpw", budget=4.5).best
    """
    from allocator.tables.replay import replay_request, run

    given = _given({"score": score, "budget": budget, "bpw": bpw, **options})
    asked = replay_request(_path(table), given)
    watch = _watch(progress)
    with watch.phase("replay") as tell:
        done = run(asked, tell)
    for note in done.notes:
        watch.say(note)
    return done


def _watch(progress: bool) -> Watch:
    from allocator.report.progress import progress_bars

    return progress_bars(progress)


def _path(file: PathLike | None) -> Any:
    from allocator.core.home import named_file

    return None if file is None else named_file(file)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    from allocator.core.options import given_options

    return given_options(options)
