"""A model under a plan: its cells from the bank, or the weights finalized for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.bench.imports import imported, is_plan, tell
from allocator.bench.loading import open_bank, open_full_precision
from allocator.bench.prepare import model_for, prepare, spec_of
from allocator.bench.references import adopt, referred
from allocator.bench.tasks import task_of
from allocator.core.allocation import Allocation
from allocator.core.errors import BankError, SpecError
from allocator.core.plan import Plan, plan_json
from allocator.core.plugins import available
from allocator.core.ports import SPLITS
from allocator.core.spec import EXTRAS, GRANULARITIES
from allocator.core.study import StudySpec
from allocator.embedded import model_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Split
    from allocator.core.watch import Watch
    from allocator.study.journal import Journal
    from quant.bank import Bank
    from quant.finalized import Finalized

REMEDY = 'export the plan again, or take its "finalized" out to score what the bank has'


def planned_request(
    options: Mapping[str, Any],
    plan: Plan | None,
    file: Path | None,
    purpose: str = "an evaluation",
) -> StudySpec:
    """What is asked of a plan, or of full precision.

    Args:
        options: fields of `StudySpec`; the plan's count where they are not given.
        plan: None for full precision.
        file: the plan's, for messages.
        purpose: what needs the request, for messages.

    Raises:
        SpecError: no task, or an option of the wrong type.
    """
    of_plan = {} if plan is None else _of_plan(plan, options.get("task"))
    if "task" not in {**of_plan, **options}:
        known = ", ".join(available("evals.tasks"))
        raise SpecError(f"{purpose} needs --task or --task-set (tasks: {known})")
    # a budget that everything fits
    return StudySpec.read({"budget": "16", **of_plan, **options}, file)


def read_plan(
    file: Path,
    options: Mapping[str, Any],
    watch: Watch,
    purpose: str = "an evaluation",
) -> Plan:
    """A plan of ours, or one of what another tool's file has for a model.

    Args:
        file: the plan, or what the other tool wrote.
        options: fields of `StudySpec`: the model, and the task it is asked for.
        watch: is told what is taken otherwise than the file has it.
        purpose: what needs the request, for messages.

    Raises:
        AllocateError: a file or a model that cannot be read; names in the one that the
            other does not have.
    """
    if is_plan(file):
        return Plan.read(file)
    if "model" not in options:
        raise SpecError(f"{file} names no model: give --model")
    asked = planned_request(options, None, file, purpose)
    task = task_of(asked.task, asked.data)
    folder, family = model_for(task, model_folder(asked.model), asked.model)
    spec = spec_of(asked, folder, family)
    found = imported(file, spec, asked.scheme)
    tell(found, watch)
    allocation = Allocation.from_linears(spec, found.choices)
    return Plan.from_json(plan_json(asked, spec, allocation), str(file))


def load_planned(
    asked: StudySpec,
    plan: Plan,
    weights: Path,
    watch: Watch,
    journal: Journal | None = None,
) -> tuple[Any, Any]:
    """A transformers model with a plan's weights in place, and its processor.

    Args:
        asked: the model, and how the plan quantizes it.
        plan: bits and method of every group.
        weights: folder of the weights that were finalized for it, if it has any.
        watch: is shown the phase "bank" where cells have to be made.
        journal: the study it is of, which may keep what calibrates.

    Raises:
        AllocateError: a model, plan or weights that cannot be had.
    """
    # finalized weights are as they are; the bank's depend on what calibrates them
    calibrated = plan.finalized is None and plan.methods
    splits: tuple[Split, ...] = ("calibration",) if calibrated else ()
    setup = setup_of(asked, plan, splits, watch)
    if journal is not None:
        adopt(setup, journal)
    bench = open_planned(setup, plan, weights, watch)
    bench.apply(plan.allocation(setup.model))
    return bench.model.module, bench.model.processor


def open_planned(
    setup: Setup, plan: Plan | None, weights: Path | None, watch: Watch
) -> Workbench:
    """The model with whatever a plan's weights come from; None: full precision."""
    cells = None if plan is None else open_cells(setup, plan, weights, watch)
    bench = open_full_precision(setup)
    bench.bank, bench.halving.say = cells, watch.say
    return bench


def open_cells(
    setup: Setup, plan: Plan, weights: Path | None, watch: Watch, remedy: str = REMEDY
) -> Bank | Finalized | None:
    """Where a plan's weights come from; None: all of them are at 16 bits.

    Args:
        setup: the request, with calibration samples where a bank is needed.
        plan: bits and method of every group.
        weights: folder of the plan's finalized weights.
        watch: is shown the phase "bank" where cells have to be made.
        remedy: what helps where finalized weights are gone.
    """
    if weights is not None and plan.finalized is not None:
        return _finalized(setup, plan, weights, remedy)
    if not plan.methods:
        return None
    return open_bank(referred(setup, watch), watch)


def _finalized(setup: Setup, plan: Plan, folder: Path, remedy: str) -> Finalized:
    """The weights beside a plan.

    Raises:
        BankError: they are missing or damaged.
        SpecError: they are those of another plan.
    """
    from quant.finalized import Finalized

    try:
        found = Finalized.open(folder)
    except BankError as error:
        raise BankError(f"{error}; {remedy}") from None
    found.check(setup.weights, plan.allocation(setup.model).of_linears(setup.model))
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
        "target": plan.scheme.target,
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


def setup_of(
    asked: StudySpec, plan: Plan | None, splits: Sequence[Split], watch: Watch
) -> Setup:
    """The setup whose groups are the plan's: its granularity is found by its keys."""
    if "calibration" in splits and len(asked.tasks) > 1:
        # what calibrates several tasks depends on what their search has taken
        splits = SPLITS
    setup = prepare(asked, splits, watch)
    if plan is None or set(plan.groups) == set(setup.model.keys):
        return setup
    groups, nearest = set(plan.groups), setup.model
    for granularity in GRANULARITIES:
        asked = replace(asked, granularity=granularity)
        spec = spec_of(asked, setup.folder, setup.family)
        nearest = max(nearest, spec, key=lambda each: len(groups & set(each.keys)))
        if groups == set(spec.keys):
            space = replace(setup.space, spec=spec)
            return replace(setup, asked=asked, model=spec, space=space)
    unknown = sorted(groups - set(nearest.keys))
    missing = sorted(set(nearest.keys) - groups)
    which = f"unknown: {', '.join(unknown[:3])}" if unknown else ""
    raise SpecError(
        f"the plan, made for {plan.model}, has other groups than {asked.model} "
        f"({which or 'missing: ' + ', '.join(missing[:3])}); `allocate inspect` lists "
        "them"
    )
