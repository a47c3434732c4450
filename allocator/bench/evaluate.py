"""Score a model on a task's evaluation set, without a search."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.bench.finalize import choices_of
from allocator.bench.loading import open_bench, open_full_precision
from allocator.bench.prepare import prepare
from allocator.core.errors import BankError, SpecError
from allocator.core.plan import FINALIZED, Plan
from allocator.core.plugins import available
from allocator.core.ports import SPLITS
from allocator.core.spec import EXTRAS, GRANULARITIES
from allocator.core.study import StudySpec
from evals.interval import bootstrap
from evals.taskset import strata

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Split
    from allocator.core.spec import ModelSpec
    from allocator.core.watch import Watch
    from quant.finalized import Finalized


def evaluate_model(
    options: Mapping[str, Any], plan_file: Path | None, watch: Watch
) -> dict[str, Any]:
    """Score of a model with its 95 % interval, as plain data.

    Args:
        options: fields of `StudySpec`; the plan's count where they are not given.
        plan_file: the allocation to score; None scores full precision.
        watch: is told how far it is.

    Raises:
        AllocateError: a model, task, data folder or plan that cannot be had.
    """
    plan = Plan.read(plan_file) if plan_file else None
    of_plan = {} if plan is None else _of_plan(plan, options.get("task"))
    if "task" not in {**of_plan, **options}:
        known = ", ".join(available("evals.tasks"))
        raise SpecError(f"an evaluation needs --task or --task-set (tasks: {known})")
    # a budget that everything fits
    asked = StudySpec.read({"budget": "16", **of_plan, **options}, plan_file)
    setup = _with_plan(asked, plan)
    space = setup.space
    allocation = plan.allocation(setup.model) if plan else space.full
    bench = _bench(setup, plan, plan_file, watch)
    samples = setup.samples["evaluation"]
    with watch.phase("evaluation") as progress:
        score = bench.score(
            allocation, samples, lambda done: progress(done, len(samples))
        )
    interval = bootstrap(score.values, asked.seed, strata(setup.task, samples))
    size = space.size(allocation)
    return {
        "model": setup.asked.model,
        "task": setup.task.name,
        "metric": setup.task.metric,
        "plan": str(plan_file) if plan_file else None,
        "finalized": plan.finalized if plan else None,
        "score": interval.mean,
        "ci95": interval.ci95,
        "details": dict(score.details),
        "samples": len(samples),
        "bpw": size.bpw("model"),
        "bpw_quantized": size.bpw("quantized"),
        "applied": bench.applied(allocation),
        "values": [
            {"id": sample.id, "value": value}
            for sample, value in zip(samples, score.values, strict=True)
        ],
    }


def _bench(
    setup: Setup, plan: Plan | None, plan_file: Path | None, watch: Watch
) -> Workbench:
    """The model with whatever a plan's weights come from."""
    if plan is not None and plan_file is not None and plan.finalized is not None:
        finalized = _finalized(setup, plan, plan_file.parent / FINALIZED)
        bench = open_full_precision(setup)
        bench.bank = finalized
        return bench
    quantized = plan is not None and plan.methods
    return open_bench(setup, watch) if quantized else open_full_precision(setup)


def _finalized(setup: Setup, plan: Plan, folder: Path) -> Finalized:
    """The weights beside a plan.

    Raises:
        BankError: they are missing or damaged.
        SpecError: they are those of another plan.
    """
    from quant.finalized import Finalized

    try:
        found = Finalized.open(folder)
    except BankError as error:
        raise BankError(
            f'{error}; export the plan again, or take its "finalized" out to score '
            "what the bank has"
        ) from None
    found.check(setup.weights, choices_of(setup.model, plan.allocation(setup.model)))
    if found.digest != plan.finalized:
        raise SpecError(f"{folder} holds other finalized weights than the plan's")
    return found


def _of_plan(plan: Plan, task: str | None) -> dict[str, Any]:
    """What a plan was made for, as fields of a request.

    How it was scored counts only for the task it was made for.
    """
    kinds = {key.rpartition(".")[2] for key in plan.groups}
    asked: dict[str, Any] = {
        "model": plan.model,
        "seed": plan.seed,
        "include": tuple(kind for kind in EXTRAS if kind in kinds),
    }
    if task in (None, plan.asked.get("task")):
        asked |= plan.asked
    if plan.methods:
        asked |= {
            "methods": plan.methods,
            "widths": plan.widths,
            "group_size": plan.scheme.group_size,
            "symmetric": plan.scheme.symmetric,
            "calibration": plan.calibration,
        }
    return asked


def _with_plan(asked: StudySpec, plan: Plan | None) -> Setup:
    """The setup whose groups are the plan's: its granularity is found by its keys."""
    splits: tuple[Split, ...] = ("evaluation",)
    if plan is not None:
        # what calibrates several tasks depends on what their search has taken
        several = len(asked.tasks) > 1
        splits = SPLITS if several else ("calibration", "evaluation")
    setup = prepare(asked, splits)
    if plan is None or set(plan.groups) == set(setup.model.keys):
        return setup
    for granularity in GRANULARITIES:
        spec: ModelSpec = setup.family.spec(setup.folder, granularity, asked.include)
        if set(plan.groups) == set(spec.keys):
            space = replace(setup.space, spec=spec)
            asked = replace(asked, granularity=granularity)
            return replace(setup, asked=asked, model=spec, space=space)
    unknown = sorted(set(plan.groups) - set(setup.model.keys))
    missing = sorted(set(setup.model.keys) - set(plan.groups))
    which = f"unknown: {', '.join(unknown[:3])}" if unknown else ""
    raise SpecError(
        f"the plan, made for {plan.model}, has other groups than {asked.model} "
        f"({which or 'missing: ' + ', '.join(missing[:3])}); `allocate inspect` lists "
        "them"
    )
