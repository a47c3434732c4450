"""Score a model on a task's evaluation set, without a search."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.bench import open_bench, open_full_precision
from allocator.core.errors import SpecError
from allocator.core.plan import Plan
from allocator.core.spec import GRANULARITIES
from allocator.core.study import StudySpec
from allocator.prepare import prepare
from evals.interval import bootstrap

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.bench import Watch
    from allocator.core.spec import ModelSpec
    from allocator.prepare import Setup


def evaluate_model(  # noqa: PLR0913, the command's options
    model: str | None,
    plan_file: Path | None,
    watch: Watch,
    *,
    task: str,
    data: str | None = None,
    device: str = "auto",
    seed: int | None = None,
) -> dict[str, Any]:
    """Score of a model with its 95 % interval, as plain data.

    Raises:
        AllocateError: a model, task, data folder or plan that cannot be had.
    """
    plan = Plan.read(plan_file) if plan_file else None
    # a budget that everything fits
    asked = StudySpec(budget="16", task=task, data=data, device=device)
    asked = _following(asked, model, plan)
    asked = asked if seed is None else replace(asked, seed=seed)
    setup = _with_plan(asked, plan)
    space = setup.space
    allocation = plan.allocation(setup.model) if plan else space.full
    quantized = plan is not None and plan.methods
    bench = open_bench(setup, watch) if quantized else open_full_precision(setup)
    samples = setup.samples["evaluation"]
    with watch.phase("evaluation") as progress:
        score = bench.score(
            allocation, samples, lambda done: progress(done, len(samples))
        )
    interval = bootstrap(score.values, asked.seed)
    size = space.size(allocation)
    return {
        "model": asked.model,
        "task": task,
        "metric": setup.task.metric,
        "plan": str(plan_file) if plan_file else None,
        "score": interval.mean,
        "ci95": interval.ci95,
        "samples": len(samples),
        "bpw": size.bpw("model"),
        "bpw_quantized": size.bpw("quantized"),
        "applied": bench.applied(allocation),
    }


def _following(asked: StudySpec, model: str | None, plan: Plan | None) -> StudySpec:
    """The request with the plan's model and scheme; a model named beside it wins."""
    if plan is None:
        return replace(asked, model=model or asked.model)
    asked = replace(asked, model=model or plan.model, seed=plan.seed)
    if not plan.methods:
        return asked
    return replace(
        asked,
        methods=plan.methods,
        widths=plan.widths,
        group_size=plan.scheme.group_size,
        symmetric=plan.scheme.symmetric,
        calibration=plan.calibration,
    )


def _with_plan(asked: StudySpec, plan: Plan | None) -> Setup:
    """The setup whose groups are the plan's: its granularity is found by its keys."""
    setup = prepare(asked)
    if plan is None or set(plan.groups) == set(setup.model.keys):
        return setup
    for granularity in GRANULARITIES:
        spec: ModelSpec = setup.family.spec(setup.folder, granularity)
        if set(plan.groups) == set(spec.keys):
            return prepare(replace(asked, granularity=granularity))
    unknown = sorted(set(plan.groups) - set(setup.model.keys))
    raise SpecError(
        f"the plan's groups are not those of {asked.model}: "
        f"{', '.join(unknown[:3]) or 'some are missing'}; "
        "`allocate inspect` lists them"
    )
