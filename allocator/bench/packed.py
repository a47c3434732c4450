"""A quantized folder on the bench, as the loader of its runtime reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from allocator.bench.contents import Contents
from allocator.bench.pictures import readable
from allocator.bench.prepare import (
    files_digest,
    model_for,
    rerank_of,
    tell_unread,
)
from allocator.bench.sums import check_sums
from allocator.bench.tasks import asked_task, check_names, read_samples, tell_data
from allocator.core.errors import SpecError
from allocator.core.exporting import installed
from allocator.core.own import refers_to_itself
from allocator.core.spec import ModelSpec
from allocator.embedded import model_folder
from allocator.families import (
    checkpoint_files,
    packed_type,
    parameters_of,
    tensor_bytes,
)
from evals.taskset import TaskSet

if TYPE_CHECKING:
    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample, Task
    from allocator.core.study import StudySpec
    from allocator.core.watch import Watch


@dataclass(frozen=True)
class Packed:
    """A quantized folder that was loaded, and what it is to be scored on.

    Attributes:
        bench: has the model, without groups: all its weights stay as they are.
        task: what it is scored by.
        samples: its evaluation set.
        loader: who has read the folder, with versions, and the type it computes in.
        bpw: bits on disk for each parameter.
        applied: digest of the folder's files.
    """

    bench: Workbench
    task: Task
    samples: tuple[Sample, ...]
    loader: str
    bpw: float
    applied: str


def open_packed(asked: StudySpec, library: str, watch: Watch) -> Packed:
    """Check a quantized folder and all that is asked of it, and load it.

    Args:
        asked: the folder or hub id, and the task.
        library: by which transformers reads it; see `allocator.families.packed_by`.
        watch: is shown the phases "checkpoint" and "pictures" where files are read.

    Raises:
        AllocateError: anything that cannot be had, or a folder that is damaged.
    """
    check_names(asked)
    contents = Contents(watch)
    task = _asked_alone(asked, contents)
    folder, family = model_for(
        task, model_folder(asked.model), asked.model, packed=True
    )
    files = checkpoint_files(folder, packed=True)
    check_sums(folder, files, contents)
    task = readable(task, contents, skip=asked.skip_broken)
    samples = read_samples(asked, task, ("evaluation",))["evaluation"]
    tell_data(task, {"evaluation": samples}, watch)
    tell_unread(folder, watch)
    # brings torch, which the checks above do not need
    from allocator.bench.devices import pick_device
    from allocator.bench.workbench import Workbench

    device = pick_device(asked.device)
    dtype = packed_type(folder, device)
    model = family.load_packed(folder, device, dtype)
    parameters = parameters_of(model.module)
    spec = ModelSpec(folder.name, parameters, (), ())
    bench = Workbench(model, spec, task, None, asked.beams, rerank_of(asked))
    loader = f"{installed('transformers', library)}, {dtype}"
    return Packed(
        *(bench, task, samples),
        loader,
        8 * tensor_bytes(folder) / parameters,
        files_digest(folder, files, contents),
    )


def _asked_alone(asked: StudySpec, contents: Contents) -> Task:
    """A task that needs nothing of full precision.

    Raises:
        SpecError: it does.
    """
    task = asked_task(asked, contents)
    if isinstance(task, TaskSet):
        raise SpecError(
            f"{asked.task} counts relative to full precision, which {asked.model} does "
            "not hold, since it is quantized: give its tasks one by one"
        )
    if refers_to_itself(task):
        raise SpecError(
            f"{task.name} counts replies that agree with full precision, which "
            f"{asked.model} does not hold, since it is quantized: evaluate the model "
            "it was made from under its plan (--plan), or give answers"
        )
    return task
