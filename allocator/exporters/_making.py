"""What an export is made from: a study's recommendation, one of its trials, a plan."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.bench.finalize import finalized_home
from allocator.bench.planned import (
    REMEDY,
    open_cells,
    planned_request,
    read_plan,
    setup_of,
)
from allocator.bench.references import adopt
from allocator.core.allocation import Budget
from allocator.core.amounts import ranges
from allocator.core.errors import BankError, DataError, SpecError, StudyError
from allocator.core.home import cache_home, default_storage
from allocator.core.masking import masked
from allocator.core.plan import FINALIZED, Plan, plan_json
from allocator.core.plugins import load
from allocator.core.ports import Selection
from allocator.core.study import StudySpec, check_options
from allocator.exporters._export import Export
from allocator.study.entry import FAILED, PASSED
from allocator.study.journal import SPEC
from allocator.study.recommendations import recommendation
from evals.world.files import ensure_world

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from allocator.bench.prepare import Setup
    from allocator.core.ports import Model, Sample
    from allocator.core.watch import Watch
    from allocator.exporters._checkpoint import Checkpoint
    from allocator.study.entry import Entry
    from allocator.study.journal import Journal
    from quant.grid import Cell

# samples whose logits are compared
COMPARED = 8
# tasks of the drawn world: whatever a model does, it is asked one of them
DRAWN = ("flickr30k", "coco", "vqav2")
# fields of `StudySpec` that may be other than a study or a plan has them
OF_STUDY = ("data", "device", "memory")
OF_PLAN = (*OF_STUDY, "model", "task")


@dataclass(frozen=True)
class Making:
    """How an export's checkpoint is made, once it is asked for.

    Attributes:
        asked: the model, and how the plan quantizes it.
        plan: bits and method of every group.
        weights: folder of the plan's finalized weights; None: the bank's cells.
        watch: is shown the phases that making cells takes.
        applied: digest of the cells that were measured; None: any.
        source: what is exported, in words.
        journal: the study it is of.
    """

    asked: StudySpec
    plan: Plan
    weights: Path | None
    watch: Watch
    applied: str | None = None
    source: str = "the plan"
    journal: Journal | None = None

    def __call__(self) -> Checkpoint:
        """The checkpoint, mapped.

        Raises:
            AllocateError: a model, data or weights that cannot be had, or are not
                those that were measured.
        """
        # brings torch, which a plan does not need
        from allocator.bench.folded import folded_of
        from allocator.bench.in_place import applied_digest
        from allocator.exporters._checkpoint import Checkpoint

        setup = self._setup()
        if self.journal is not None:
            adopt(setup, self.journal)
        allocation = self.plan.allocation(setup.model)
        remedy = REMEDY if self.applied is None else "search again to make them"
        cells = open_cells(setup, self.plan, self.weights, self.watch, remedy)
        model = setup.family.load(setup.folder, "cpu", mapped=True)
        known = (setup.model, setup.scheme, allocation, setup.folder, model)
        samples = samples_of(setup, model)
        if cells is None:
            return Checkpoint(*known, _no_cell, samples=samples)
        wanted = allocation.of_linears(setup.model)
        self._check_applied(applied_digest(setup.model.linears, wanted, cells))
        made = folded_of(setup, allocation, cells, model)
        linears = {linear.name: linear for linear in setup.model.linears}

        def measured(name: str) -> Tensor:
            return cells.weight(linears[name], made.choices[name])

        # finalized weights are measured as they are written
        other = None if self.plan.finalized else measured
        return Checkpoint(*known, made.cell, made.changed, samples, other)

    def _check_applied(self, here: str) -> None:
        if self.applied not in (None, here):
            raise StudyError(
                f"the cells of {self.source} are others now than those that were "
                "measured: search again to have it measured"
            )

    def _setup(self) -> Setup:
        """The setup, with calibration samples where they can be had."""
        try:
            return setup_of(self.asked, self.plan, ("calibration",), self.watch)
        except DataError:
            if self.plan.finalized is None and self.plan.methods:
                raise
            return setup_of(self.asked, self.plan, (), self.watch)


def _no_cell(name: str) -> Cell:
    raise BankError(f"{name} is at 16 bits and has no cell")


def samples_of(setup: Setup, model: Model) -> tuple[Sample, ...]:
    """Samples to compare logits on: of calibration, or else of the drawn world."""
    own = setup.samples.get("calibration", ())
    for name in () if own else DRAWN:
        task = load("evals.tasks", name)
        found = task.samples(ensure_world(cache_home()), "calibration", Selection())
        # what ranks is asked nothing
        is_asked = task.needs == "ranking" or found[0].prompt in model.kinds
        if task.needs == setup.task.needs and is_asked:
            own = found
    return tuple(own[:COMPARED])


@dataclass(frozen=True)
class Wanted:
    """How an export was asked for.

    Attributes:
        fmt: name of the format.
        out: the folder, as it was given.
        options: what the exporter itself is asked, such as {"scales": "fp16"}.
    """

    fmt: str
    out: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def command(self, *source: str, **others: Any) -> str:
        """The command that does it, without passwords.

        Args:
            source: the words that name what is exported.
            others: further options that were given, by name.
        """
        words = [*source, "--format", self.fmt, "--out", self.out]
        for name, value in {**self.options, **others}.items():
            words += [f"--{name}", str(value)]
        return shlex.join(["allocate", "export", *map(masked, words)])


def export_of_plan(
    file: Path, options: Mapping[str, Any], wanted: Wanted, watch: Watch
) -> Export:
    """A plan file, by its finalized weights, or the bank's cells.

    Args:
        file: as `allocate export --format plan` writes it, or a person.
        options: some of `OF_PLAN`; the plan's count where they are not given.
        wanted: the format, and where to.
        watch: is shown what takes long.

    Raises:
        SpecError: no plan, one that names no task, or one that would be replaced.
    """
    check_options(options, OF_PLAN)
    if file.resolve().is_relative_to(Path(wanted.out).resolve()):
        raise SpecError(
            f"the plan {file} lies in {wanted.out}, which would be replaced: name "
            "another folder"
        )
    plan = read_plan(file, options, watch, "exporting a plan")
    asked = planned_request(options, plan, file, "exporting a plan")
    weights = None if plan.finalized is None else file.parent / FINALIZED
    making = Making(asked, plan, weights, watch)
    setup = setup_of(asked, plan, (), watch)
    allocation = plan.allocation(setup.model)
    data = plan_json(setup.asked, setup.model, allocation, plan.finalized)
    command = wanted.command("--plan", str(file), **options)
    return Export(data, making, None, None, command, wanted.options, weights)


def export_of_study(
    journal: Journal,
    kept: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    wanted: Wanted,
    watch: Watch,
) -> Export:
    """What a study recommends.

    Args:
        journal: the study.
        kept: {"found": ..., "plan": ...} (`allocator.study.recommendations`); None:
            the latest.
        options: some of `OF_STUDY`, where not as they were.
        wanted: the format, and where to.
        watch: is shown what takes long.

    Raises:
        StudyError: it has not come to one yet.
    """
    check_options(options, OF_STUDY)
    kept = kept or recommendation(journal)
    found, data = kept["found"], kept["plan"]
    plan = Plan.from_json(data, f"study {journal.name}")
    name = plan.finalized
    weights = None if name is None else finalized_home() / name
    best = found["recommended"]
    # finalized weights are as they are, whatever device made them
    device = {"device": "cpu"} if name else {}
    making = Making(
        _asked(journal, {**device, **options}),
        *(plan, weights, watch, best["applied"], f"study {journal.name!r}", journal),
    )
    score = {
        **{key: best[key] for key in ("score", "ci95")},
        **{key: found[key] for key in ("metric", "task")},
        "full": found["full_precision"]["score"],
        "confirmed": True,
    }
    return Export(
        data,
        making,
        score,
        budget_of(found),
        wanted.command(journal.name, **options, **_where(journal)),
        wanted.options,
        weights,
    )


def budget_of(found: Mapping[str, Any]) -> Budget | None:
    """The budget that a study kept; a front or a minimal score has none."""
    if found["goal"] != "budget":
        return None
    return Budget(found["budget"]["bpw"], "bpw", found["budget"]["scope"])


def _where(journal: Journal) -> dict[str, str]:
    """Where a study is kept, if not where studies are by default."""
    usual = journal.url == default_storage()
    return {} if usual else {"storage": journal.shown}


def _asked(journal: Journal, options: Mapping[str, Any]) -> StudySpec:
    # the storage is open, and what a study keeps of it has no password; what memory a
    # search was given says nothing of where its outcome is exported
    kept = {**journal.attribute(SPEC), "storage": None, "memory": None}
    return StudySpec.read({**kept, **options})


def export_of_trial(
    journal: Journal,
    number: int,
    options: Mapping[str, Any],
    wanted: Wanted,
    watch: Watch,
) -> Export:
    """One measured trial of a study, by the bank's cells: its score is not confirmed.

    Args:
        journal: the study.
        number: the trial's, as Optuna counts.
        options: some of `OF_STUDY`, where not as they were.
        wanted: the format, and where to.
        watch: is shown what takes long.

    Raises:
        StudyError: no trial of that number was measured; says which were.
    """
    check_options(options, OF_STUDY)
    asked = _asked(journal, options)
    setup = setup_of(asked, None, ("calibration",), watch)
    entries = journal.entries(setup.space)
    entry = measured_entry(entries, number, journal.name)
    data = plan_json(setup.asked, setup.model, entry.allocation)
    full = [e.score for e in entries if e.about.get("kind") == "full" and e.score]
    score = {
        "score": entry.score,
        "ci95": None,
        "metric": setup.task.metric,
        "task": setup.task.name,
        "full": full[0] if full else None,
        "confirmed": False,
    }
    plan, source = Plan.from_json(data, f"trial {number}"), f"trial {number} of study"
    known = entry.about.get("applied"), f"{source} {journal.name!r}", journal
    making = Making(asked, plan, None, watch, *known)
    bound = entry.about.get("limit")
    limit = None if bound is None else Budget(bound, "bpw", asked.budget_scope)
    words = (journal.name, "--trial", str(number))
    command = wanted.command(*words, **options, **_where(journal))
    return Export(data, making, score, limit, command, wanted.options)


def measured_entry(entries: Sequence[Entry], number: int, study: str) -> Entry:
    """The entry of a trial that was measured in full.

    Raises:
        StudyError: there is none of that number; says why, and which there are.
    """
    known = ranges([entry.number for entry in entries if entry.score is not None])
    found = next((entry for entry in entries if entry.number == number), None)
    if found is not None and found.score is not None:
        return found
    if found is None:
        why = "there is none"
    elif found.superseded:
        why = "its cells have been made anew since it was measured"
    elif found.state == PASSED:
        why = "it was passed over after a look"
    elif found.state == FAILED:
        why = f"it failed ({found.failure or 'given up'})"
    else:
        why = "it is being measured"
    raise StudyError(
        f"study {study!r} has no measured trial {number}: {why} (measured: "
        f"{known or 'none'})"
    )
