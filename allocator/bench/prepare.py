"""Everything a search needs, looked up and checked before anything heavy is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.bench.candidates import Named, read_candidates
from allocator.bench.compared import in_words
from allocator.bench.contents import Contents
from allocator.bench.pictures import readable
from allocator.bench.tasks import (
    EMBEDDED,
    asked_task,
    check_names,
    read_samples,
    sample_digest,
    tell_data,
    without_references,
)
from allocator.core.allocation import digest
from allocator.core.errors import SpecError
from allocator.core.holding import within_target
from allocator.core.own import refers_to_itself
from allocator.core.plugins import load
from allocator.core.ports import RERANK, SPLITS
from allocator.core.targets import TARGETS
from allocator.core.waiting import check_answers
from allocator.embedded import is_embedded, model_folder
from allocator.families import (
    check_weights,
    checkpoint_files,
    computing_type,
    family_of,
    has_switch,
    scale_type,
    unread_files,
)
from allocator.space.model import ModelSpace
from allocator.study.identity import Identity
from allocator.study.storage import default_name, open_storage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.allocation import Scheme
    from allocator.core.ports import Family, Sample, Split, Task
    from allocator.core.spec import ModelSpec
    from allocator.core.study import StudySpec
    from allocator.core.watch import Watch
    from evals.taskset import TaskSet
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
    # further calibration samples, where references had to be made for them
    judges: tuple[Sample, ...] = ()

    @cached_property
    def identity(self) -> Identity:
        """Digest of everything that makes two measurements comparable.

        Budget, pins, trials and time are free: they may change within a study. Of the
        device its kind counts, and the type it computes in. References that are the
        model's own replies follow from the rest.

        Raises:
            DataError: a picture cannot be read.
        """
        asked = self.asked
        sets = dict(self.samples)
        if refers_to_itself(self.task):
            sets = {split: without_references(own) for split, own in sets.items()}
        images = [s.image for samples in sets.values() for s in samples]
        held = self.contents.of(images, "pictures")
        parts = {
            "weights": self.weights,
            "task": [self.task.name, self.task.version],
            "samples": {
                split: [sample_digest(s, held[s.image]) for s in samples]
                for split, samples in sets.items()
            },
            "cells": self.cells,
            "arithmetic": self.arithmetic,
            "widths": list(asked.widths),
            "granularity": asked.granularity,
            "include": list(asked.include),
            "decoding": [asked.beams, self.rerank],
            **_longest(asked),
            "seed": asked.seed,
            **({} if asked.target == "none" else {"target": asked.target}),
        }
        return Identity.of(digest(parts), in_words(asked, parts))

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
    if asked.data:
        check_answers(Path(asked.data).expanduser())
    contents = Contents(watch)
    task = asked_task(asked, contents)
    folder, family = model_for(task, model_folder(asked.model), asked.model)
    check_weights(folder)
    task = readable(task, contents, skip=asked.skip_broken)
    # a user's files are looked at first; drawing our own takes longer than the rest
    samples = read_samples(asked, task, splits, contents) if asked.data else None
    if asked.storage:
        open_storage(asked.storage, timeout=asked.storage_timeout)
    # brings torch, which the checks above do not need
    from allocator.bench.devices import pick_device
    from allocator.bench.reserved import reserve

    device = pick_device(asked.device)
    model = spec_of(asked, folder, family)
    space = ModelSpace(model, asked.scheme, asked.choices, asked.limit, asked.pins)
    candidates = read_candidates(
        asked,
        space,
        lambda other: spec_of(replace(asked, granularity=other), folder, family),
        watch,
    )
    samples = samples or read_samples(asked, task, splits, contents)
    tell_data(task, samples, contents.watch)
    tell_unread(folder, watch)
    weights = weights_digest(folder, contents)
    setup = Setup(
        *(asked, folder, family, task, samples, model, space, weights, device),
        contents,
        candidates,
    )
    reserve(asked, model, setup.scheme, device, setup.arithmetic, splits)
    return setup


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


def weights_digest(folder: Path, contents: Contents) -> str:
    """Digest of a checkpoint: of each file that is loaded, by name and content.

    One that can think was asked to before it was told to answer at once: what was
    measured of it then is of another.

    Raises:
        AllocateError: weights are missing or damaged, or a file cannot be read.
    """
    files = files_digest(folder, checkpoint_files(folder), contents)
    return digest([files, "answers at once"]) if has_switch(folder) else files


def files_digest(folder: Path, files: Sequence[Path], contents: Contents) -> str:
    """Digest of files in a folder, of each by name and content."""
    held = contents.of(files, "checkpoint")
    return digest([[str(file.relative_to(folder)), held[file]] for file in files])


def _longest(asked: StudySpec) -> dict[str, Any]:
    """The longest reply, where it is not the task's own: part of an identity."""
    longest = asked.max_new_tokens
    return {} if longest is None else {"max_new_tokens": longest}
