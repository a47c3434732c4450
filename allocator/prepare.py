"""Everything a search needs, looked up and checked before anything heavy is loaded."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.core.allocation import digest
from allocator.core.errors import DataError, UnknownNameError
from allocator.core.plugins import available, load
from allocator.core.ports import SPLITS
from allocator.embedded import is_embedded, model_folder
from allocator.families import family_of
from allocator.home import cache_home
from allocator.journal import open_storage
from allocator.space import Space
from evals.splits import check_disjoint
from evals.world.files import ensure_world

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.ports import Family, Sample, Split, Task
    from allocator.core.spec import ModelSpec
    from allocator.core.study import StudySpec


@dataclass(frozen=True)
class Setup:
    """A checked request: what was asked, and what it means on this machine."""

    asked: StudySpec
    folder: Path
    family: Family
    task: Task
    samples: Mapping[Split, tuple[Sample, ...]]
    model: ModelSpec
    space: Space
    weights: str
    device: str

    @property
    def identity(self) -> str:
        """Digest of everything that makes two measurements comparable.

        Budget, trials, time and device are free: they may change within a study.
        """
        asked = self.asked
        return digest(
            {
                "weights": self.weights,
                "task": [self.task.name, self.task.version],
                "samples": {
                    split: [sample_digest(sample) for sample in self.samples[split]]
                    for split in SPLITS
                },
                "scheme": [asked.group_size, asked.symmetric],
                "widths": list(asked.widths),
                "methods": list(asked.methods),
                "granularity": asked.granularity,
                "seed": asked.seed,
            }
        )

    @property
    def study(self) -> str:
        """The study's name: as asked, or one that follows from the identity."""
        if self.asked.study is not None:
            return self.asked.study
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(self.asked.model).name).strip("-")
        return f"{stem[:40] or 'model'}-{self.asked.task}-{self.identity[:8]}"


def prepare(asked: StudySpec, splits: Sequence[Split] = SPLITS) -> Setup:
    """Look up and check everything a request names, the cheap things first.

    Only the sets of samples that are needed are read.

    Raises:
        AllocateError: anything that cannot be had, in one sentence.
    """
    _check_names(asked)
    task: Task = load("evals.tasks", asked.task, "task")
    folder = model_folder(asked.model)
    family = family_of(folder)
    # a user's files are looked at first; drawing our own takes longer than the rest
    samples = read_samples(asked, task, splits) if asked.data else None
    if asked.storage:
        open_storage(asked.storage)
    # brings torch, which the checks above do not need
    from allocator.trial import pick_device

    device = pick_device(asked.device)
    model = family.spec(folder, asked.granularity)
    space = Space(model, asked.scheme, asked.choices, asked.limit)
    samples = samples or read_samples(asked, task, splits)
    weights = weights_digest(folder)
    return Setup(asked, folder, family, task, samples, model, space, weights, device)


def _check_names(asked: StudySpec) -> None:
    named = (
        ("method", "quant.methods", asked.methods),
        ("task", "evals.tasks", (asked.task,)),
        ("strategy", "allocator.strategies", (asked.strategy,)),
    )
    for kind, package, names in named:
        for name in names:
            if name not in available(package):
                raise UnknownNameError(kind, name, available(package))


def data_folder(asked: StudySpec) -> Path:
    """The folder with a task's official files; drawn first for an embedded model.

    Raises:
        DataError: the folder does not exist, or a user's model comes without one.
    """
    if asked.data is not None:
        folder = Path(asked.data).expanduser()
        if not folder.is_dir():
            raise DataError(f"there is no data folder {asked.data}")
        return folder
    if not is_embedded(asked.model):
        raise DataError(
            f"model {asked.model} needs --data DIR with the official files of "
            f"{asked.task}; only the embedded models bring their own"
        )
    return ensure_world(cache_home())


def read_samples(
    asked: StudySpec, task: Task, splits: Sequence[Split] = SPLITS
) -> dict[Split, tuple[Sample, ...]]:
    """Sets of samples, checked to share no image.

    Raises:
        DataError: a file is missing or malformed, or two sets overlap.
    """
    folder = data_folder(asked)
    samples = {split: task.samples(folder, split, asked.seed) for split in splits}
    if "calibration" in samples:
        # chosen at random: any first ones are a fair sample
        samples["calibration"] = samples["calibration"][: asked.calibration]
    check_disjoint(**samples)
    return samples


def sample_digest(sample: Sample) -> str:
    """Digest of a sample's words and of its picture's size in bytes."""
    size = sample.image.stat().st_size
    return digest([sample.id, sample.prompt, sample.text, sample.references, size])


def weights_digest(folder: Path) -> str:
    """SHA-256 of a checkpoint: weights, configuration, tokenizer, prompts."""
    total = hashlib.sha256()
    kinds = (".json", ".jinja", ".model", ".safetensors", ".txt")
    for file in sorted(f for f in folder.iterdir() if f.suffix in kinds):
        total.update(file.name.encode())
        with file.open("rb") as opened:
            while chunk := opened.read(2**24):
                total.update(chunk)
    return total.hexdigest()[:16]
