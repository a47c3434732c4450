"""Several tasks as one objective, for a model that is deployed for all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError, SpecError
from allocator.core.ports import SPLITS, Sample, Score
from allocator.core.study import JOINED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Prediction, Selection, Split, Task

METRIC = "mean score relative to full precision (%)"


@dataclass(frozen=True)
class TaskSet:
    """Tasks that one model is asked; their samples stand one task behind the other.

    Raises:
        SpecError: some want replies and some rankings, which no one model gives.
    """

    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        if len({task.needs for task in self.tasks}) > 1:
            kinds = ", ".join(f"{task.name}: {task.needs}" for task in self.tasks)
            raise SpecError(f"no one model gives what these tasks need ({kinds})")

    @property
    def name(self) -> str:
        """Names of the tasks, joined."""
        return JOINED.join(task.name for task in self.tasks)

    @property
    def metric(self) -> str:
        """Name and unit of the score."""
        return METRIC

    @property
    def version(self) -> str:
        """Scores of different versions are never compared."""
        return JOINED.join(str(task.version) for task in self.tasks)

    @property
    def needs(self) -> Prediction:
        """What all of them score."""
        return self.tasks[0].needs

    @property
    def subsets(self) -> tuple[str, ...]:
        """Names of published evaluation sets, of any of the tasks."""
        return tuple(dict.fromkeys(s for task in self.tasks for s in task.subsets))

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """Samples of all tasks; calibration takes turns: its first ones are fair."""
        rows = [
            [
                replace(sample, id=f"{task.name}:{sample.id}")
                for sample in task.samples(data, split, self._for(task, selection))
            ]
            for task in self.tasks
        ]
        if split != "calibration":
            return tuple(chain.from_iterable(rows))
        turns = chain.from_iterable(zip_longest(*rows))
        return tuple(sample for sample in turns if sample is not None)

    def _for(self, task: Task, selection: Selection) -> Selection:
        """A selection whose published set only counts for the tasks that have it."""
        elsewhere = set(self.subsets) - set(task.subsets)
        return (
            replace(selection, subset=None)
            if selection.subset in elsewhere
            else selection
        )

    def parts(
        self, samples: Sequence[Sample]
    ) -> Iterator[tuple[Task, tuple[Sample, ...]]]:
        """Each task with its own samples, under their own ids."""
        for task in self.tasks:
            start = f"{task.name}:"
            own = tuple(
                replace(sample, id=sample.id.removeprefix(start))
                for sample in samples
                if sample.id.startswith(start)
            )
            if own:
                yield task, own

    def scores(
        self,
        predictions: Sequence[Any],
        samples: Sequence[Sample],
        whole: Sequence[Sample] = (),
    ) -> dict[str, Score]:
        """Scores of the tasks, by name; for `whole` see `within`."""
        wholes = {task.name: own for task, own in self.parts(whole)}
        found: dict[str, Score] = {}
        done = 0
        for task, own in self.parts(samples):
            said = predictions[done : done + len(own)]
            found[task.name] = within(task, wholes.get(task.name, ())).score(said, own)
            done += len(own)
        return found


def within(task: Task, whole: Sequence[Sample]) -> Task:
    """A task whose scores of parts of a whole set can be compared; none: as it is."""
    # a task in other words hands on what its own has: no type tells of it
    narrowed = getattr(task, "within", None)
    return narrowed(whole) if whole and narrowed is not None else task


def relative(found: Mapping[str, Score], full: Mapping[str, Score]) -> Score:
    """Mean over tasks of score / full-precision score, in percent.

    Values are weighted so that every task counts the same however many samples it has
    at full precision, which may have been scored on more; their mean is the score.
    `details` are the tasks' own scores.

    Raises:
        DataError: full precision scores nothing on a task.
    """
    dead = [name for name, score in full.items() if not score.mean > 0]
    if dead:
        raise DataError(
            f"the model scores {full[dead[0]].mean:.4g} on {dead[0]} at full "
            "precision: no other score can be relative to that"
        )
    total = sum(len(score.values) for score in full.values())
    values: list[float] = []
    for name, score in found.items():
        known = full[name]
        weight = 100 * total / (len(full) * len(known.values) * known.mean)
        values += [weight * value for value in score.values]
    return Score(
        mean=sum(values) / len(values),
        values=tuple(values),
        details={name: score.mean for name, score in found.items()},
    )


def tasks_of(task: Task | TaskSet) -> tuple[Task, ...]:
    """One task, or the several of a set."""
    return task.tasks if isinstance(task, TaskSet) else (task,)


def parts_of(
    task: Task | TaskSet, samples: Sequence[Sample]
) -> Iterator[tuple[Task, Sequence[Sample]]]:
    """Each task of one or of several, with its own samples."""
    if isinstance(task, TaskSet):
        yield from task.parts(samples)
    else:
        yield task, samples


def strata(task: Task | TaskSet, samples: Sequence[Sample]) -> tuple[int, ...]:
    """Number of samples of each task, in their order."""
    return tuple(len(own) for _, own in parts_of(task, samples))


def without_shared(
    samples: Mapping[Split, tuple[Sample, ...]],
    held: Mapping[Path, str] | None = None,
) -> dict[Split, tuple[Sample, ...]]:
    """Drop what tasks' sets share: evaluation keeps an image, then search.

    Two tasks on the same photographs divide them differently.

    Args:
        samples: of all tasks, by set.
        held: what each file holds, where copies are to count as one image; None: those
            of one path do.
    """

    def name(sample: Sample) -> str | Path:
        return sample.image if held is None else held[sample.image]

    seen: set[str | Path] = set()
    kept: dict[Split, tuple[Sample, ...]] = {}
    for split in reversed(SPLITS):
        if split in samples:
            kept[split] = tuple(s for s in samples[split] if name(s) not in seen)
            seen |= {name(sample) for sample in samples[split]}
    return {split: kept[split] for split in SPLITS if split in kept}
