"""Score a model on a task's evaluation set, without a search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.bench.planned import open_planned, planned_request, setup_of
from allocator.bench.sense import judge, scores_of
from allocator.core.errors import ModelError
from allocator.core.finite import is_number
from allocator.core.plan import FINALIZED, Plan
from allocator.study.entry import not_finite
from evals.interval import bootstrap
from evals.taskset import strata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample, Score, Split
    from allocator.core.watch import Watch


# samples whose logits are looked at
FEW = 8
# fields of `StudySpec` that decide what is scored, and on what
OPTIONS = (
    *("model", "task", "data", "fraction", "subset", "beams", "rerank"),
    *("device", "seed"),
)


def _doubt(
    bench: Workbench,
    model: str,
    score: Score,
    samples: Sequence[Sample],
    watch: Watch,
) -> None:
    """Say what is odd at full precision: a search would refuse some of it."""
    found = judge(model, scores_of(bench.task, score, bench.said), {})
    fault = bench.fault(samples[:FEW])
    lines = [f"{model} cannot work at full precision: {fault}" if fault else None]
    for line in filter(None, (*lines, found.refused, *found.warnings)):
        watch.say(line)


def _check(
    model: str, plan: Path | None, score: Score, samples: Sequence[Sample]
) -> None:
    """Refuse a score that is none."""
    if reason := not_finite(score.mean, score.values, [s.id for s in samples]):
        under = f"under {plan}" if plan else "at full precision"
        raise ModelError(f"{model} {under} {reason}")


def evaluate_model(
    options: Mapping[str, Any], plan_file: Path | None, watch: Watch
) -> dict[str, Any]:
    """Score of a model with its 95 % interval, as plain data.

    Args:
        options: fields of `StudySpec`; the plan's count where they are not given.
        plan_file: the allocation to score; None scores full precision.
        watch: is told how far it is.

    Raises:
        AllocateError: a model, task, data folder, plan or score that cannot be had.
    """
    plan = Plan.read(plan_file) if plan_file else None
    asked = planned_request(options, plan, plan_file)
    splits: tuple[Split, ...] = ("evaluation",)
    if plan is not None:
        splits = ("calibration", *splits)
    setup = setup_of(asked, plan, splits, watch)
    allocation = plan.allocation(setup.model) if plan else setup.space.full
    weights = plan_file.parent / FINALIZED if plan_file else None
    bench = open_planned(setup, plan, weights, watch)
    samples = setup.samples["evaluation"]
    with watch.phase("evaluation") as progress:
        score = bench.score(
            allocation, samples, lambda done: progress(done, len(samples))
        )
    if not plan:
        _doubt(bench, asked.model, score, samples, watch)
    _check(asked.model, plan_file, score, samples)
    interval = bootstrap(score.values, asked.seed, strata(setup.task, samples))
    size = setup.space.size(allocation)
    return {
        "model": setup.asked.model,
        "task": setup.task.name,
        "metric": setup.task.metric,
        "plan": str(plan_file) if plan_file else None,
        "finalized": plan.finalized if plan else None,
        "score": interval.mean,
        "ci95": interval.ci95,
        "details": {k: v for k, v in score.details.items() if is_number(v)},
        "samples": len(samples),
        "bpw": size.bpw("model"),
        "bpw_quantized": size.bpw("quantized"),
        "applied": bench.applied(allocation),
        "values": [
            {"id": sample.id, "value": value}
            for sample, value in zip(samples, score.values, strict=True)
        ],
    }
