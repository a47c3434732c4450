"""Score a model on a task's evaluation set, without a search."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from allocator.bench.packed import open_packed
from allocator.bench.planned import (
    open_planned,
    planned_request,
    read_plan,
    setup_of,
)
from allocator.bench.references import referred, replies_to
from allocator.bench.replied import log_probabilities, some_of, token_divergence
from allocator.bench.sense import judge, scores_of
from allocator.core.allocation import Allocation
from allocator.core.errors import ModelError, SpecError
from allocator.core.finite import is_number
from allocator.core.own import refers_to_itself
from allocator.core.plan import FINALIZED
from allocator.embedded import model_folder
from allocator.families import packed_by
from allocator.study.entry import not_finite
from evals.interval import bootstrap
from evals.metrics.agreement import UNIT, agreeing
from evals.taskset import strata

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample, Score, Split, Task
    from allocator.core.records import TokenDivergence
    from allocator.core.study import StudySpec
    from allocator.core.watch import Watch
    from evals.taskset import TaskSet


# samples whose logits are looked at
FEW = 8
# fields of `StudySpec` that decide what is scored, and on what
OPTIONS = (
    *("model", "task", "data", "fraction", "subset", "beams", "rerank"),
    *("metric", "columns", "prompt", "max_new_tokens", "skip_broken"),
    *("device", "memory", "seed"),
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


def evaluate_model(
    options: Mapping[str, Any],
    plan_file: Path | None,
    watch: Watch,
    *,
    agreement: bool = False,
) -> dict[str, Any]:
    """Score of a model with its 95 % interval, as plain data.

    A folder whose weights are quantized is scored as the library reads it that they
    were packed for.

    Args:
        options: fields of `StudySpec`; the plan's count where they are not given.
        plan_file: the allocation to score, perhaps of another tool; None scores full
            precision.
        watch: is told how far it is.
        agreement: also how many replies are those of full precision, and how far from
            it their tokens: the model is asked at full precision as well.

    Raises:
        AllocateError: a model, task, data folder, plan or score that cannot be had.
    """
    if agreement and plan_file is None:
        raise SpecError("--agreement holds a plan against full precision: give --plan")
    plan = read_plan(plan_file, options, watch) if plan_file else None
    asked = planned_request(options, plan, plan_file)
    if plan is None and (library := packed_by(model_folder(asked.model))):
        return _as_it_is(asked, library, watch)
    before: tuple[Split, ...] = ("calibration",) if plan else ()
    setup = referred(setup_of(asked, plan, (*before, "evaluation"), watch), watch)
    allocation = plan.allocation(setup.model) if plan else setup.space.full
    weights = plan_file.parent / FINALIZED if plan_file else None
    bench = open_planned(setup, plan, weights, watch)
    samples, size = setup.samples["evaluation"], setup.space.size(allocation)
    found = score, _ = _scored(bench, allocation, samples, watch)
    if not plan:
        _doubt(bench, asked.model, score, samples, watch)
    held = plan is not None and (agreement or refers_to_itself(setup.task))
    measured = _alike(setup, bench, allocation, found, watch) if held else (score, None)
    under = f"under {plan_file}" if plan_file else "at full precision"
    return {
        **_measured(asked, setup.task, measured, samples, under),
        "plan": str(plan_file) if plan_file else None,
        "finalized": plan.finalized if plan else None,
        "loader": None,
        "bpw": size.bpw("model"),
        "bpw_quantized": size.bpw("quantized"),
        "applied": bench.applied(allocation),
    }


def _as_it_is(asked: StudySpec, library: str, watch: Watch) -> dict[str, Any]:
    """Score of a folder whose weights are quantized, as plain data.

    Raises:
        AllocateError: see `open_packed`; a folder whose weights or logits are no
            numbers.
    """
    found = open_packed(asked, library, watch)
    if fault := found.bench.fault(found.samples[:FEW]):
        raise ModelError(f"{asked.model} is damaged: {fault}")
    whole = Allocation(())
    score, _ = _scored(found.bench, whole, found.samples, watch)
    under = f"as {found.loader} reads it"
    return {
        **_measured(asked, found.task, (score, None), found.samples, under),
        "plan": None,
        "finalized": None,
        "loader": found.loader,
        "bpw": found.bpw,
        "bpw_quantized": None,
        "applied": found.applied,
    }


def _scored(
    bench: Workbench, allocation: Allocation, samples: Sequence[Sample], watch: Watch
) -> tuple[Score, list[Any]]:
    """The score of an allocation, and what that made of each sample."""
    with watch.phase("evaluation") as progress:
        said = bench.predictions(
            allocation, samples, lambda done: progress(done, len(samples))
        )
        return bench.score_of(allocation, said, samples), said


def _alike(
    setup: Setup,
    bench: Workbench,
    allocation: Allocation,
    scored: tuple[Score, list[Any]],
    watch: Watch,
) -> tuple[Score, TokenDivergence | None]:
    """A score with the share of replies that are full precision's, and their tokens'.

    Raises:
        SpecError: what was scored are no replies.
    """
    (score, said), task, seed = scored, setup.task, setup.asked.seed
    if task.needs != "reply":
        raise SpecError(f"--agreement counts replies, and {task.name} wants rankings")
    samples = setup.samples["evaluation"]
    if not refers_to_itself(task):
        known = replies_to(setup, {"evaluation": samples}, watch, bench)["evaluation"]
        samples, values = known.to(samples), agreeing(said, known.texts)
        share = {UNIT: sum(values) / len(values)}
        score = replace(score, details={**score.details, **share})
    few = some_of(bench, samples, strata(task, samples), seed)
    pair = (setup.space.full, allocation)
    with watch.phase("divergence"):
        return score, token_divergence(
            *(log_probabilities(bench, each, few) for each in pair)
        )


def _measured(
    asked: StudySpec,
    task: Task | TaskSet,
    found: tuple[Score, TokenDivergence | None],
    samples: Sequence[Sample],
    under: str,
) -> dict[str, Any]:
    """A score as plain data, with its interval, and the divergence of its tokens.

    Raises:
        ModelError: it is no number; `under` says of which weights.
    """
    score, far = found
    if reason := not_finite(score.mean, score.values, [s.id for s in samples]):
        raise ModelError(f"{asked.model} {under} {reason}")
    interval = bootstrap(score.values, asked.seed, strata(task, samples))
    return {
        "model": asked.model,
        "task": task.name,
        "metric": task.metric,
        "score": interval.mean,
        "ci95": interval.ci95,
        "details": {k: v for k, v in score.details.items() if is_number(v)},
        "divergence": far and asdict(far),
        "samples": len(samples),
        "values": [
            {"id": sample.id, "value": value}
            for sample, value in zip(samples, score.values, strict=True)
        ],
    }
