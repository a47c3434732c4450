"""A study opened from Python: its trials, front, importance, explanation, report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from allocator.bench.finalize import finalized_home
from allocator.bench.planned import load_planned, planned_request, read_plan
from allocator.core.errors import SpecError, StudyError
from allocator.core.home import named_file
from allocator.core.options import typed_options
from allocator.core.plan import FINALIZED, Plan
from allocator.core.records import Recommendation
from allocator.core.study import StudySpec, check_options, check_study_name
from allocator.explain.explanation import explain_study, space_of_study
from allocator.explain.kept import importance_of
from allocator.explain.shown import Shown, front_rows
from allocator.report.data import study_report, trials_of
from allocator.report.notebook import front_image, recommendation_html
from allocator.report.progress import progress_bars
from allocator.report.render import render
from allocator.report.sections import paragraph, plain
from allocator.study.journal import SPEC, Journal
from allocator.study.recommendations import (
    latest_recommendation,
    plan_of,
    recommendation,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from pathlib import Path

    import optuna
    import pandas as pd

    from allocator.core.watch import Watch


@dataclass(frozen=True)
class Study:
    """A study that is on disk: everything measured in it, and what that says.

    Whatever is asked is read anew, so that a search that is still running can be
    looked at.
    """

    journal: Journal

    @staticmethod
    def open(name: str, storage: str | None = None) -> Study:
        """Open a study that exists.

        Args:
            name: as `Recommendation.study` or `allocate studies list` have it.
            storage: URL or FILE.log; None is the default storage.

        Raises:
            StudyError: there is none of that name; names those there are.
        """
        url = None if storage is None else str(storage)
        return Study(Journal.load(url, check_study_name(name)))

    @property
    def name(self) -> str:
        """Its name."""
        return self.journal.name

    @property
    def optuna(self) -> optuna.Study:
        """The same as Optuna has it, for its own plots and tools."""
        return self.journal.study

    @property
    def recommendation(self) -> dict[str, Any] | None:
        """The latest recommendation, as `--json` prints it, or None."""
        return latest_recommendation(self.journal)

    def trials_dataframe(self) -> pd.DataFrame:
        """Every trial, a row each: number, kind, state, bpw, score, looks, groups.

        `score` is in the metric's unit over the search set, missing for what was passed
        over after a look; a group's cell is its choice, "4/gptq" or "16".

        Raises:
            SpecError: pandas is not installed.
            StudyError: the search has not begun.
        """
        try:
            import pandas as pd
        except ImportError:
            raise SpecError(
                "a data frame needs pandas, which is not installed: pip install pandas"
            ) from None
        space = space_of_study(self.journal)
        rows = []
        for trial in trials_of(self.journal, space):
            chosen = trial.pop("allocation")
            looks = trial.pop("looks")
            labels = {key: _label(choice) for key, choice in chosen.items()}
            rows.append({**trial, **looks, **labels})
        return pd.DataFrame(rows)

    def front(self) -> list[dict[str, Any]]:
        """Non-dominated allocations of everything measured, the smallest first.

        Of what keeps the pins of the latest search. Each has `digest`, `bpw`, `score`,
        its `ci95` (None where scores of samples were not kept), the `allocation`, and
        in `samples` where the score is from: "evaluation", or "search, corrected" for
        having been chosen there. All are as the bank has the weights, not finalized.

        Raises:
            StudyError: the search has not begun.
        """
        space = space_of_study(self.journal)
        return front_rows(Shown.of(self.journal, space), space)

    def importance(self) -> dict[str, Any]:
        """Consensus importance in percent by component, block group, layer type, group.

        As in a recommendation's `importance`, of all that is known by now; where its
        `unreliable` has a reason, the shares mean nothing.

        Raises:
            StudyError: nothing was measured yet.
        """
        return importance_of(self.journal, space_of_study(self.journal))

    def explain(self, *, progress: bool = True) -> dict[str, Any]:
        """What mattered, and why this allocation: what `explain --json` prints.

        Its `sentences` are for reading. Takes some seconds.

        Raises:
            StudyError: nothing was measured yet.
        """
        with progress_bars(progress).phase("explanation") as tell:
            return explain_study(self.journal, tell)

    def report(
        self,
        out: str | os.PathLike[str],
        figure: str | None = None,
        *,
        progress: bool = True,
    ) -> Path:
        """Write a page to pass on, or one of its figures, by the file's ending.

        Args:
            out: report.html, or a .png or .svg file.
            figure: which figure; front where None.
            progress: whether to show how far it is.

        Returns:
            The file.

        Raises:
            SpecError: a file that cannot be written, or of another kind.
            StudyError: the study has no recommendation yet.
        """
        file = named_file(out)
        write = render(file, figure=figure)
        with progress_bars(progress).phase("explanation") as tell:
            data = study_report(self.journal, tell)
        write(data)
        return file

    def __repr__(self) -> str:
        return f"Study({self.name!r}, {self.journal.shown!r})"

    def _repr_html_(self) -> str:
        found = self.recommendation
        if found is not None:
            return recommendation_html(found, self.front())
        told = paragraph(f"Study {self.name}: no recommendation yet")
        try:
            return told + front_image({"found": {}, "front": self.front()})
        except StudyError as error:
            return told + f"<p>{plain(error)}</p>"


def load_recommended(
    source: Recommendation | Study | str | os.PathLike[str],
    options: Mapping[str, Any],
    watch: Watch,
) -> tuple[Any, Any]:
    """A transformers model with recommended weights in place, and its processor.

    Args:
        source: a recommendation, a study, or a plan file.
        options: fields of `StudySpec`: for a plan file the model, its data, task and
            device; for what a study keeps, the device alone.
        watch: is shown the phase "bank" where cells have to be made.

    Raises:
        AllocateError: a study, plan, model or weights that cannot be had.
    """
    journal = None
    if isinstance(source, Recommendation | Study):
        check_options(options, ("device",))
        journal = _journal_of(source)
        kept = _plan_of(source, journal)
        plan = Plan.from_json(kept, f"study {journal.name}")
        spec = {**journal.attribute(SPEC), "device": "auto", **options}
        asked = StudySpec.read(spec)
        weights = finalized_home() / str(plan.finalized)
    else:
        check_options(options, ("model", "data", "task", "device"))
        file = _plan_file(source)
        plan = read_plan(file, options, watch, "loading a plan")
        asked = planned_request(options, plan, file, "loading a plan")
        weights = file.parent / FINALIZED
    return load_planned(asked, plan, weights, watch, journal)


def export_recommended(
    source: Recommendation | Study | str | os.PathLike[str],
    fmt: str,
    out: str | os.PathLike[str],
    options: Mapping[str, Any],
    watch: Watch,
) -> dict[str, Any]:
    """Write what is recommended as a checkpoint that a runtime loads.

    Args:
        source: a recommendation, a study, or a plan file.
        fmt: name of the format.
        out: the folder to write.
        options: trial, of a study; others as `allocator.exporters._request` has them.
        watch: is shown how far it is.

    Raises:
        AllocateError: what cannot be had, written or read again.
    """
    from allocator.exporters import _making
    from allocator.exporters._request import export_from

    typed_options({"format": fmt, **options})
    others = {key: value for key, value in options.items() if key != "trial"}
    trial = options.get("trial")
    if not isinstance(source, Recommendation | Study):
        if trial is not None:
            raise SpecError("a trial is one of a study's, and this is a plan file")
        file = _plan_file(source)
        made: Any = partial(_making.export_of_plan, file)
    elif trial is not None:
        made = partial(_making.export_of_trial, _journal_of(source), trial)
    else:
        journal = _journal_of(source)
        kept = None
        if isinstance(source, Recommendation):
            kept = {"found": source.to_json(), "plan": plan_of(journal, source)}
        made = partial(_making.export_of_study, journal, kept)
    return export_from(made, fmt, named_file(out), others, watch)


def _plan_file(source: str | os.PathLike[str]) -> Path:
    """A plan file, or the one in its folder."""
    file = named_file(source, "a recommendation, a study or a plan file")
    # as `allocate export --format plan` names it
    return file / "plan.json" if file.is_dir() else file


def _journal_of(source: Recommendation | Study) -> Journal:
    if isinstance(source, Study):
        return source.journal
    return Journal.load(source.storage, source.study)


def _plan_of(source: Recommendation | Study, journal: Journal) -> dict[str, Any]:
    """The plan that a study keeps: the recommendation's own, or the latest."""
    if isinstance(source, Recommendation):
        return plan_of(journal, source)
    plan: dict[str, Any] = recommendation(journal)["plan"]
    return plan


def _label(choice: dict[str, Any]) -> str:
    """A choice as Optuna's parameters spell it."""
    if choice["method"] is None:
        return f"{choice['bits']}"
    return f"{choice['bits']}/{choice['method']}"
