"""Tasks of lmms-eval (EvolvingLMMs-Lab) as objectives, where it is installed.

`lmms:NAME` is its task NAME with the first metric that it lists, `lmms:NAME@METRIC` the
same task with another one. Its words stay its own: what is asked (`doc_to_text`, with
its default wording), the targets, the filters, the metric. Three things differ: replies
are always greedy, its stop strings are not applied (nor do its own LLaVA and
InstructBLIP), and a text that its `description` puts in front is left out (as it is for
its chat models).

Loading a task runs that task's Python code, and downloads its data.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from PIL import Image

from allocator.core.drafts import draft_folder
from allocator.core.errors import DataError, FullError
from allocator.core.full import naming_the_disk
from allocator.core.ports import Prediction, Sample, Score
from allocator.core.study import CALIBRATION_SIZE
from evals._lmms import PREFIX, SUPPORTED, explained, installed, load, metric_of
from evals.tasks._official import (
    SEARCH_SIZE,
    check_paired,
    check_selection,
    portion,
    rank,
    shuffled,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.ports import Selection, Split, Task

METRIC_MARK = "@"
# what lmms-eval's LLaVA takes where a task does not say
LONGEST_REPLY = 1024
# below the folder of the data: pictures by their content, of all tasks together
PICTURES = "lmms-pictures"
# a published metric is a mean of its documents' numbers, or that in percent
SCALES = (1.0, 100.0)
# documents that are scored at first, to see what a metric gives
PROBED = 32


@dataclass(frozen=True, slots=True)
class Doc:
    """A document of a split, and the digest of its picture."""

    split: str
    index: int
    image: str

    @property
    def id(self) -> str:
        """Its number, with the split that counts it."""
        return f"{self.split}-{self.index}"


def lmms_task(name: str, include: Path | None = None) -> Task:
    """A task of lmms-eval, loaded with its data and found to be of a kind that fits.

    Args:
        name: its name there, and behind an @ the metric (the first it lists).
        include: folder with further tasks, as lmms-eval's own `--include_path`.

    Raises:
        AllocateError: lmms-eval is missing, has no such task or cannot load it, or
            the task or its metric is of another kind.
    """
    base, _, metric = name.partition(METRIC_MARK)
    source = load(base, include)
    task = LmmsTask(PREFIX + name, source, metric_of(source, base, metric))
    task.probe()
    return task


@dataclass(frozen=True, eq=False)
class LmmsTask:
    """Reads a loaded `ConfigurableTask` of lmms-eval, and scores by its metric."""

    name: str
    source: Any
    measure: str
    needs: Prediction = "reply"
    examples: tuple[Sample, ...] = ()

    @property
    def metric(self) -> str:
        """Name of the score, whose unit is that of lmms-eval."""
        return f"{self.measure} as lmms-eval prints it"

    @cached_property
    def version(self) -> int:
        """Differs with lmms-eval's version, the task's metadata and the metric."""
        made_of = [installed(), self.source.config.metadata, self.measure]
        text = json.dumps(made_of, sort_keys=True, default=str)
        return 1 + int(hashlib.sha256(text.encode()).hexdigest()[:7], 16)

    @property
    def max_new_tokens(self) -> int:
        """Longest reply, as the task's generation settings have it."""
        settings = self.source.config.generation_kwargs or {}
        return int(settings.get("max_new_tokens") or LONGEST_REPLY)

    @property
    def subsets(self) -> tuple[str, ...]:
        """The split that lmms-eval scores: test, else validation."""
        config = self.source.config
        return (config.test_split or config.validation_split,)

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        """Choose the samples of one split, and write the pictures of these.

        The split that lmms-eval scores is divided by picture (documents that show the
        same pixels stay together), in the order of the seed: a quarter of the pictures
        for search, until these have 1,000 documents; an eighth, at most 128, for
        calibration, one document each; evaluation is all others, or as many of them as
        the fraction of the whole split asks for. Where the task has a training split,
        calibration comes from that instead. All pictures of the split are read once.

        Args:
            data: folder below which the pictures are kept, as PNG files.
            split: which of the three sets.
            selection: the seed decides which pictures are taken, and the order.

        Raises:
            DataError: a document has not exactly one picture, there are too few of
                them, or the selection is an impossible one.
        """
        check_selection(selection, self.name, self.subsets)
        if split == "calibration" and self._training is not None:
            chosen = self._from_training(self._training, selection.seed)
        else:
            chosen = divide(self._docs, selection.seed, self._training is None)[split]
        if split == "evaluation" and selection.fraction is not None:
            size = portion(len(self._docs), selection.fraction)
            if size > len(chosen):
                raise DataError(
                    f"beside search and calibration, {self.name} has {len(chosen)} of "
                    f"{len(self._docs)} documents for evaluation, not a fraction of "
                    f"{selection.fraction}"
                )
            chosen = chosen[:size]
        return tuple(self._sample(data / PICTURES, doc) for doc in chosen)

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        """Score replies, one per sample, as lmms-eval does; NaN if it is so of one.

        Raises:
            ReplyError: not one text per sample, or none at all.
            DataError: the metric is no mean of its documents' numbers.
        """
        check_paired(predictions, samples, str, "replies")
        rows = [self._row(sample.id) for sample in samples]
        with explained(f"{self.name} cannot be scored"):
            found = self._results(predictions, rows)
            printed = float(self.source.aggregation()[self.measure](found))
        values = [
            self._number(result, sample)
            for result, sample in zip(found, samples, strict=True)
        ]
        if not all(map(math.isfinite, values)):
            # of these replies, not of the metric: whoever asked decides
            return Score(math.nan, tuple(values))
        mean = sum(values) / len(values)
        for scale in SCALES:
            if math.isclose(printed, scale * mean, rel_tol=1e-3, abs_tol=1e-9):
                return Score(scale * mean, tuple(scale * value for value in values))
        raise DataError(
            f"{self.measure} of {self.name} is {printed:g} and the mean of its "
            f"documents {mean:g}; supported are metrics that are means over documents"
        )

    def probe(self) -> None:
        """Score some documents: two thirds of them by a target, the others by nothing.

        Raises:
            DataError: as for all samples, before any model is loaded.
        """
        split = self.subsets[0]
        count = min(PROBED, len(self.source.dataset_no_image[split]))
        docs = [Doc(split, index, "") for index in range(count)]
        samples = [self._sample(None, doc) for doc in docs]
        replies = [s.references[0] if i % 3 else "" for i, s in enumerate(samples)]
        found = self.score(replies, samples)
        if not math.isfinite(found.mean):
            at = next(n for n, v in enumerate(found.values) if not math.isfinite(v))
            raise DataError(self._no_number(samples[at]))

    @property
    def _training(self) -> str | None:
        split: str | None = self.source.config.training_split
        return None if split in self.subsets else split

    @cached_property
    def _docs(self) -> tuple[Doc, ...]:
        """All documents of the split that lmms-eval scores."""
        split = self.subsets[0]
        count = len(self.source.dataset[split])
        return tuple(self._doc(split, index) for index in range(count))

    def _doc(self, split: str, index: int) -> Doc:
        picture = self._picture(split, index)
        pixels = hashlib.blake2b(picture.tobytes(), digest_size=16)
        pixels.update(repr(picture.size).encode())
        return Doc(split, index, pixels.hexdigest())

    def _from_training(self, split: str, seed: int) -> list[Doc]:
        """Documents of the training split, on pictures that nothing else shows."""
        seen = {doc.image for doc in self._docs}
        chosen: list[Doc] = []
        everything = range(len(self.source.dataset[split]))
        for index in sorted(everything, key=lambda each: rank(seed, each)):
            doc = self._doc(split, index)
            if doc.image not in seen:
                seen.add(doc.image)
                chosen.append(doc)
            if len(chosen) == CALIBRATION_SIZE:
                break
        if not chosen:
            raise DataError(f"{self.name} has no picture of its own for calibration")
        return chosen

    def _picture(self, split: str, index: int) -> Image.Image:
        with explained(f"{self.name} has a document {split}-{index} without picture"):
            shown = self.source.doc_to_visual(self.source.dataset[split][index])
            shown = list(shown or ())
            if len(shown) == 1 and isinstance(shown[0], Image.Image):
                return shown[0].convert("RGB")
        raise DataError(
            f"document {split}-{index} of {self.name} has {len(shown)} pictures or "
            f"other media; {SUPPORTED}"
        )

    def _row(self, name: str) -> Any:
        """A document without its picture, as lmms-eval words and scores it."""
        split, _, index = name.rpartition("-")
        return self.source.dataset_no_image[split][int(index)]

    def _sample(self, folder: Path | None, doc: Doc) -> Sample:
        """A document; its picture is written if there is a folder for it."""
        with explained(f"document {doc.id} of {self.name} cannot be worded"):
            row = self._row(doc.id)
            text = self.source.doc_to_text(row)
            target = self.source.doc_to_target(row)
            if isinstance(target, int) and self.source.config.doc_to_choice:
                target = self.source.doc_to_choice(row)[target]
        several = isinstance(target, list | tuple)
        references = tuple(str(each) for each in (target if several else [target]))
        if not isinstance(text, str) or "<image>" in text or not references:
            raise DataError(
                f"document {doc.id} of {self.name} is not a text about one picture "
                "with a target"
            )
        image = (folder or Path()) / f"{doc.image}.png"
        if folder is not None and not image.exists():
            _write(self._picture(doc.split, doc.index), image)
        return Sample(doc.id, image, "plain", text, references, upright=False)

    def _results(self, replies: Sequence[str], rows: Sequence[Any]) -> list[Any]:
        """What the task makes of each reply behind its first chain of filters."""
        chain = self.source._filters[0]
        asked = [SimpleNamespace(resps=[each], filtered_resps={}) for each in replies]
        chain.apply(asked, rows)
        return [
            self.source.process_results(row, [one.filtered_resps[chain.name]]).get(
                self.measure
            )
            for one, row in zip(asked, rows, strict=True)
        ]

    def _number(self, result: Any, sample: Sample) -> float:
        if isinstance(result, dict):
            result = result.get(getattr(self.source.config, "score_key", "score"))
        if isinstance(result, Real):
            return float(result)
        raise DataError(self._no_number(sample))

    def _no_number(self, sample: Sample) -> str:
        return (
            f"{self.measure} of {self.name} gives no number for document {sample.id} "
            "alone; supported are metrics that are means over documents"
        )


def divide(
    docs: Sequence[Doc], seed: int, calibrate: bool
) -> Mapping[Split, list[Doc]]:
    """Documents of each set, in an order of which any prefix is a fair sample.

    Args:
        docs: all documents.
        seed: decides which pictures are taken, and the order.
        calibrate: whether some are for calibration.

    Raises:
        DataError: fewer than three pictures.
    """
    by_image: dict[str, list[Doc]] = {}
    for doc in docs:
        by_image.setdefault(doc.image, []).append(doc)
    images = sorted(by_image, key=lambda image: rank(seed, image))
    if len(images) < 3:
        raise DataError(f"{len(images)} different pictures are too few to divide")
    search: list[Doc] = []
    left = iter(images)
    for _ in range(max(1, len(images) // 4)):
        if len(search) < SEARCH_SIZE:
            search += by_image[next(left)]
    size = min(CALIBRATION_SIZE, max(1, len(images) // 8)) if calibrate else 0
    calibration = [shuffled(by_image[next(left)], seed)[0] for _ in range(size)]
    evaluation = [doc for image in left for doc in by_image[image]]
    return {
        "search": shuffled(search, seed)[:SEARCH_SIZE],
        "calibration": calibration,
        "evaluation": shuffled(evaluation, seed),
    }


def _write(picture: Image.Image, path: Path) -> None:
    """Save a PNG file, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            naming_the_disk(path.parent, path.name),
            draft_folder(path.parent) as draft,
        ):
            picture.save(draft / path.name)
            (draft / path.name).replace(path)
    except FullError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from None
