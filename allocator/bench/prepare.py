"""Everything a search needs, looked up and checked before anything heavy is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.bench.candidates import Named, read_candidates
from allocator.bench.contents import Contents
from allocator.core.allocation import digest
from allocator.core.errors import DataError, SpecError, UnknownNameError
from allocator.core.holding import within_target
from allocator.core.home import cache_home
from allocator.core.plugins import available, load
from allocator.core.ports import RERANK, SPLITS
from allocator.core.study import JOINED
from allocator.core.targets import TARGETS
from allocator.embedded import is_embedded, model_folder
from allocator.families import (
    check_weights,
    checkpoint_files,
    computing_type,
    family_of,
    scale_type,
    unread_files,
)
from allocator.space.model import ModelSpace
from allocator.study.storage import default_name, open_storage
from evals._lmms import PREFIX as LMMS
from evals.lmms import lmms_task
from evals.splits import check_disjoint
from evals.taskset import TaskSet, without_shared
from evals.world.files import ensure_world

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.allocation import Scheme
    from allocator.core.ports import Family, Sample, Split, Task
    from allocator.core.spec import ModelSpec
    from allocator.core.study import StudySpec
    from allocator.core.watch import Watch


# in the place of a data folder: the drawn world of the embedded models
EMBEDDED = "embedded"
# the embedded twin ranks 500 pictures, and a search asks it many times
EMBEDDED_RERANK = 16


@dataclass(frozen=True)
class Setup:
    """A checked request: what was asked, and what it means on this machine."""

    asked: StudySpec
    folder: Path
    family: Family
    task: Task | TaskSet
    samples: Mapping[Split, tuple[Sample, ...]]
    model: ModelSpec
    space: ModelSpace
    weights: str
    device: str
    contents: Contents = field(compare=False)
    # allocations that take part in the end, by the names of their files
    candidates: tuple[Named, ...] = ()

    @cached_property
    def identity(self) -> str:
        """Digest of everything that makes two measurements comparable.

        Budget, pins, trials and time are free: they may change within a study. Of the
        device its kind counts, and the type it computes in.

        Raises:
            DataError: a picture cannot be read.
        """
        asked = self.asked
        images = [s.image for samples in self.samples.values() for s in samples]
        held = self.contents.of(images, "pictures")
        return digest(
            {
                "weights": self.weights,
                "task": [self.task.name, self.task.version],
                "samples": {
                    split: [sample_digest(s, held[s.image]) for s in samples]
                    for split, samples in self.samples.items()
                },
                "cells": self.cells,
                "arithmetic": self.arithmetic,
                "widths": list(asked.widths),
                "granularity": asked.granularity,
                "include": list(asked.include),
                "decoding": [asked.beams, self.rerank],
                "seed": asked.seed,
                **({} if asked.target == "none" else {"target": asked.target}),
            }
        )

    @cached_property
    def arithmetic(self) -> str:
        """Kind of the device and type it computes in, such as "cuda/bfloat16"."""
        kind = self.device.partition(":")[0]
        return f"{kind}/{computing_type(self.folder, self.device)}"

    @cached_property
    def scheme(self) -> Scheme:
        """The grid apart from its width, scales of the type that the checkpoint has.

        Unless the target has another.
        """
        scales = TARGETS[self.asked.target].scales or scale_type(self.folder)
        return replace(self.asked.scheme, scales=scales)

    @property
    def cells(self) -> dict[str, Any]:
        """What decides what a cell is, beside weights and calibration samples."""
        from quant.bank import FORMAT

        scheme, methods = self.scheme, self.asked.methods
        versions = {name: load("quant.methods", name).version for name in methods}
        return {
            "format": FORMAT,
            "scheme": [scheme.group_size, scheme.symmetric, scheme.scales],
            "methods": [[name, versions[name]] for name in methods],
        }

    @property
    def study(self) -> str:
        """The study's name: as asked, or one that follows from the identity."""
        return self.asked.study or default_name(self.asked, self.identity[:8])

    @property
    def rerank(self) -> int:
        """Candidates that a matching head ranks again."""
        return rerank_of(self.asked)


def rerank_of(asked: StudySpec) -> int:
    """Candidates that a matching head ranks again."""
    if asked.rerank is not None:
        return asked.rerank
    drawn = is_embedded(asked.model) or asked.data == EMBEDDED
    return EMBEDDED_RERANK if drawn else RERANK


def prepare(
    asked: StudySpec, splits: Sequence[Split] = SPLITS, watch: Watch | None = None
) -> Setup:
    """Look up and check everything a request names, the cheap things first.

    Only the sets of samples that are needed are read. `watch` is shown the phases
    "checkpoint" and, later, "pictures", where files are read that no run has read.

    Raises:
        AllocateError: anything that cannot be had, in one sentence.
    """
    check_names(asked)
    task = task_of(asked.task, asked.data)
    folder, family = model_for(task, model_folder(asked.model), asked.model)
    check_weights(folder)
    # a user's files are looked at first; drawing our own takes longer than the rest
    samples = read_samples(asked, task, splits) if asked.data else None
    if asked.storage:
        open_storage(asked.storage, timeout=asked.storage_timeout)
    # brings torch, which the checks above do not need
    from allocator.bench.devices import pick_device

    device = pick_device(asked.device)
    model = spec_of(asked, folder, family)
    space = ModelSpace(model, asked.scheme, asked.choices, asked.limit, asked.pins)
    candidates = read_candidates(
        asked,
        space,
        lambda other: spec_of(replace(asked, granularity=other), folder, family),
        watch,
    )
    samples = samples or read_samples(asked, task, splits)
    tell_unread(folder, watch)
    contents = Contents(watch)
    weights = weights_digest(folder, contents)
    return Setup(
        *(asked, folder, family, task, samples, model, space, weights, device),
        contents,
        candidates,
    )


def spec_of(asked: StudySpec, folder: Path, family: Family) -> ModelSpec:
    """Groups and sizes of a model, as the target that is asked for can hold it.

    Raises:
        AllocateError: the model cannot be read, or not by that target.
    """
    spec = family.spec(folder, asked.granularity, asked.include)
    return within_target(spec, asked.scheme)


def tell_unread(folder: Path, watch: Watch | None) -> None:
    """Say which weights lie in a model folder without being read."""
    unread = unread_files(folder)
    if unread and watch is not None:
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        watch.say(f"{folder} holds {unread[0]}{more}, which is not read")


def task_of(name: str, data: str | None = None) -> Task | TaskSet:
    """One task, or several joined by "+"; lmms-eval also looks for them in `data`.

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


def model_for(
    task: Task | TaskSet, folder: Path, model: str, *, packed: bool = False
) -> tuple[Path, Family]:
    """The checkpoint in a folder that gives what a task needs, and its family.

    A model folder may hold its retrieval twin in `retrieval/`. `packed` allows weights
    that are quantized.

    Raises:
        AllocateError: no such model, or it cannot do the task.
    """
    twin = folder / "retrieval"
    if task.needs == "ranking" and (twin / "config.json").is_file():
        folder = twin
    family = family_of(folder, packed=packed)
    gives = family.gives(folder)
    if gives != task.needs:
        raise SpecError(
            f"{task.name} needs a {task.needs} for each sample, and {model} gives a "
            f"{gives}"
        )
    return folder, family


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
        if not folder.is_dir():
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
    asked: StudySpec, task: Task | TaskSet, splits: Sequence[Split] = SPLITS
) -> dict[Split, tuple[Sample, ...]]:
    """Sets of samples, checked to share no image.

    Raises:
        DataError: a file is missing or malformed, or two sets overlap.
    """
    if not splits:
        return {}
    folder = data_folder(asked)
    samples = {split: task.samples(folder, split, asked.selection) for split in splits}
    if isinstance(task, TaskSet):
        samples = without_shared(samples)
    if "calibration" in samples:
        # chosen at random: any first ones are a fair sample
        samples["calibration"] = samples["calibration"][: asked.calibration]
    check_disjoint(**samples)
    return samples


def sample_digest(sample: Sample, content: str) -> str:
    """Digest of a sample's words and of its picture, wherever that lies.

    Args:
        sample: what is asked, and what is right.
        content: the digest of its picture's file.
    """
    words = [sample.id, sample.prompt, sample.text, sample.references]
    return digest([*words, sample.upright, content])


def weights_digest(folder: Path, contents: Contents) -> str:
    """Digest of a checkpoint: of each file that is loaded, by name and content.

    Raises:
        AllocateError: weights are missing or damaged, or a file cannot be read.
    """
    return files_digest(folder, checkpoint_files(folder), contents)


def files_digest(folder: Path, files: Sequence[Path], contents: Contents) -> str:
    """Digest of files in a folder, of each by name and content."""
    held = contents.of(files, "checkpoint")
    return digest([[str(file.relative_to(folder)), held[file]] for file in files])
