"""The tasks of a request, and its samples: looked up, read and checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.core.allocation import digest
from allocator.core.drafts import clear_drafts
from allocator.core.errors import DataError, SpecError, UnknownNameError
from allocator.core.home import cache_home
from allocator.core.own import (
    FileTask,
    Wishes,
    named_columns,
    refers_to_itself,
    summary_of,
)
from allocator.core.plugins import available, load
from allocator.core.ports import SPLITS
from allocator.core.study import JOINED
from allocator.core.waiting import answered
from allocator.embedded import is_embedded
from evals._lmms import PREFIX as LMMS
from evals.lmms import lmms_task
from evals.splits import check_disjoint
from evals.taskset import TaskSet, parts_of, tasks_of, without_shared
from evals.worded import Worded
from evals.world.files import ensure_world

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from allocator.bench.contents import Contents
    from allocator.core.ports import Sample, Split, Task
    from allocator.core.study import StudySpec
    from allocator.core.watch import Watch

# in the place of a data folder: the drawn world of the embedded models
EMBEDDED = "embedded"
# below the folder of what can be made again: pictures that files hold within themselves
PICTURES = "pictures"


def asked_task(asked: StudySpec, contents: Contents) -> Task | TaskSet:
    """What a request asks: its task or tasks, in its words, its own file read.

    Raises:
        AllocateError: an unknown name, tasks that no one model can do, or a file that
            cannot be meant.
    """
    parts = [_opened(name, asked, contents) for name in asked.tasks]
    of_files = [part for part in parts if is_file_task(part.name)]
    for_files = (("metric", asked.metric), ("columns", asked.columns))
    for option, given in (*for_files, ("skip-broken", asked.skip_broken)):
        if given and not of_files:
            raise SpecError(
                f"--{option} is for data of your own (--task own), and {asked.task} "
                "is read and scored as it is published"
            )
    if len(parts) == 1:
        return parts[0]
    if itself := [part.name for part in parts if refers_to_itself(part)]:
        raise SpecError(
            f"{itself[0]} is scored by the model's own replies, which is a task alone: "
            f"take it out of {asked.task}, or give it another --metric"
        )
    return TaskSet(tuple(parts))


def _opened(name: str, asked: StudySpec, contents: Contents) -> Task:
    task: Any = _one_task(name, asked.data)
    if isinstance(task, FileTask):
        if asked.data in (None, EMBEDDED):
            raise DataError(
                f"task {name} needs --data with your own file, or the folder it is in "
                "(`allocate example --out DIR` writes one)"
            )
        pictures = cache_home() / PICTURES
        clear_drafts(pictures)
        wishes = Wishes(
            pictures,
            asked.metric,
            named_columns(asked.columns),
            asked.seed,
            asked.skip_broken,
        )
        file = Path(asked.data).expanduser()
        task = task.opened(file, wishes, lambda images: _held(images, contents))
    if asked.prompt is None and asked.max_new_tokens is None:
        return task  # type: ignore[no-any-return]
    return Worded(task, asked.prompt, asked.max_new_tokens)


def _held(images: Iterable[Path], contents: Contents) -> dict[Path, str]:
    """Digests of pictures; missing ones, where they are allowed, are all different."""
    files = dict.fromkeys(images)
    there = contents.of((file for file in files if file.is_file()), "pictures")
    return {file: there.get(file, f"missing {file}") for file in files}


def is_file_task(name: str) -> bool:
    """Whether a task is read from a user's own file."""
    return name in available("evals.tasks") and isinstance(
        load("evals.tasks", name, "task"), FileTask
    )


def task_of(name: str, data: str | None = None) -> Task | TaskSet:
    """One task, or several joined by "+"; lmms-eval also looks for them in `data`.

    Those of a user's own file are not read.

    Raises:
        AllocateError: an unknown name; tasks that no one model can do.
    """
    tasks = tuple(_one_task(each, data) for each in name.split(JOINED))
    return tasks[0] if len(tasks) == 1 else TaskSet(tasks)


def _one_task(name: str, data: str | None) -> Task:
    if name.startswith(LMMS):
        own = Path(data).expanduser() if data else None
        has_tasks = own is not None and any(own.glob("*.yaml"))
        return lmms_task(name.removeprefix(LMMS), own if has_tasks else None)
    task: Task = load("evals.tasks", name, "task")
    return task


def tell_data(
    task: Task | TaskSet, samples: Mapping[Split, Sequence[Sample]], watch: Watch
) -> None:
    """Say what a user's own file was taken for, or what a task has to remark.

    Args:
        task: one, or several.
        samples: those that are taken, of all sets at hand.
        watch: is told.
    """
    for part in tasks_of(task):
        for sentence in getattr(part, "remarks", ()):
            watch.say(sentence)
        if summary := summary_of(part):
            own = {
                split: next((o for each, o in parts_of(task, all_) if each is part), ())
                for split, all_ in samples.items()
            }
            for sentence in summary.of(own).sentences:
                watch.say(sentence)


def check_names(asked: StudySpec) -> None:
    """Refuse methods, tasks and strategies that there are not.

    Raises:
        UnknownNameError: offers the near miss.
    """
    named = (
        ("method", "quant.methods", asked.methods),
        ("task", "evals.tasks", _own_tasks(asked)),
        ("strategy", "allocator.strategies", (asked.strategy,)),
    )
    for kind, package, names in named:
        for name in names:
            if name not in available(package):
                raise UnknownNameError(kind, name, available(package))


def _own_tasks(asked: StudySpec) -> list[str]:
    """Names of the tasks that are files of ours."""
    return [name for name in asked.tasks if not name.startswith(LMMS)]


def data_folder(asked: StudySpec) -> Path:
    """The folder with a task's official files; drawn first for an embedded model.

    Raises:
        DataError: the folder does not exist, or a user's model comes without one.
    """
    if asked.data not in (None, EMBEDDED):
        folder = Path(asked.data).expanduser()
        is_there = answered(folder, lambda _: folder.is_dir())
        if not is_there and not all(map(is_file_task, asked.tasks)):
            raise DataError(f"there is no data folder {asked.data}")
        return folder
    if not _own_tasks(asked):
        # lmms-eval brings its own, and its pictures are written there
        return cache_home()
    if asked.data == EMBEDDED and Path(EMBEDDED).is_dir():
        raise DataError(f"data {EMBEDDED!r}: write ./{EMBEDDED} for a folder")
    if asked.data is None and not is_embedded(asked.model):
        raise DataError(
            f"model {asked.model} needs --data DIR with the official files of "
            f"{asked.task}; only the embedded models bring their own (--data "
            f"{EMBEDDED})"
        )
    return ensure_world(cache_home())


def read_samples(
    asked: StudySpec,
    task: Task | TaskSet,
    splits: Sequence[Split] = SPLITS,
    contents: Contents | None = None,
) -> dict[Split, tuple[Sample, ...]]:
    """Sets of samples, checked to share no image.

    With `contents` a user's copies of published pictures are those pictures.

    Raises:
        DataError: a file is missing or malformed, or two sets overlap.
    """
    if not splits:
        return {}
    folder = data_folder(asked)
    samples = {split: task.samples(folder, split, asked.selection) for split in splits}
    if refers_to_itself(task):
        # whatever a file says is right
        samples = {split: without_references(own) for split, own in samples.items()}
    if isinstance(task, TaskSet):
        held = None
        if contents is not None and any(map(is_file_task, asked.tasks)):
            images = [sample.image for own in samples.values() for sample in own]
            held = contents.of(images, "pictures")
        samples = without_shared(samples, held)
    if "calibration" in samples:
        # chosen at random: any first ones are a fair sample
        samples["calibration"] = samples["calibration"][: asked.calibration]
    check_disjoint(**samples)
    return samples


def without_references(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Samples of which nobody says what is right."""
    return tuple(replace(sample, references=()) for sample in samples)


def sample_digest(sample: Sample, content: str) -> str:
    """Digest of a sample's words and of its picture, wherever that lies.

    Args:
        sample: what is asked, and what is right.
        content: the digest of its picture's file.
    """
    words = [sample.id, sample.prompt, sample.text, sample.references]
    # samples of before had none
    choices = [sample.choices] if sample.choices else []
    return digest([*words, sample.upright, content, *choices])
