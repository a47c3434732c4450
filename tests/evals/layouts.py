"""Every layout that a task reads, with the files and fields that it must have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.plugins import load
from allocator.core.ports import Selection
from tests.evals.benchmark_folders import (
    read_lines,
    write_chartqa,
    write_docvqa,
    write_lines,
    write_pope,
    write_textvqa,
)
from tests.evals.data_folders import (
    read,
    write,
    write_coco,
    write_flickr30k,
    write_gqa,
    write_karpathy,
    write_vqav2,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allocator.core.ports import Sample, Split

    Parts = dict[str, range]


@dataclass(frozen=True)
class File:
    """An official file, a split that reads it, and the fields that it must have.

    A field is named by the keys that lead to it; "*" is every entry. In a file of
    lines each is JSON.
    """

    name: str
    split: Split
    fields: tuple[str, ...]
    lines: bool = False

    def read(self, folder: Path) -> Any:
        return (read_lines if self.lines else read)(folder / self.name)

    def write(self, folder: Path, content: Any) -> None:
        (write_lines if self.lines else write)(folder / self.name, content)


@dataclass(frozen=True)
class Layout:
    """An evaluation set of a task as it is downloaded."""

    task: str
    subset: str
    write: Callable[[Path, Parts], None]
    parts: Parts
    files: tuple[File, ...]

    def samples(self, folder: Path, split: Split) -> tuple[Sample, ...]:
        selection = Selection(subset=self.subset)
        samples: tuple[Sample, ...] = load("evals.tasks", self.task).samples(
            folder, split, selection
        )
        return samples


QUESTIONS = tuple(
    f"questions{end}" for end in ("", "/*/question_id", "/*/image_id", "/*/question")
)
ANNOTATIONS = tuple(
    f"annotations{end}" for end in ("", "/*/question_id", "/*/image_id", "/*/answers")
)
GQA = ("*/imageId", "*/question", "*/answer")
CAPTIONS = (
    *("images", "images/*/id", "images/*/file_name"),
    *(f"annotations{end}" for end in ("", "/*/image_id", "/*/id", "/*/caption")),
)
FLICKR = (
    *("images", "images/*/filename", "images/*/split"),
    *("images/*/sentences", "images/*/sentences/*/raw"),
)
KARPATHY = (*FLICKR, "images/*/filepath", "images/*/cocoid")
TEXTVQA = (
    *("data", "data/*/question_id", "data/*/image_id"),
    *("data/*/question", "data/*/answers"),
)
DOCVQA = (
    *("data", "data/*/questionId", "data/*/image"),
    *("data/*/question", "data/*/answers"),
)
CHARTQA = ("*/imgname", "*/query", "*/label")
POPE = ("*/question_id", "*/image", "*/text", "*/label")
DIVIDED = {"train": range(1, 3), "val": range(11, 13), "test": range(21, 23)}


def captions(year: int) -> Layout:
    train, val = f"annotations/captions_train{year}", f"annotations/captions_val{year}"
    return Layout(
        "coco",
        f"val{year}",
        write_coco,
        {f"train{year}": range(1, 131), f"val{year}": range(201, 203)},
        (
            File(f"{train}.json", "search", CAPTIONS),
            File(f"{val}.json", "evaluation", CAPTIONS),
        ),
    )


LAYOUTS = (
    Layout(
        "vqav2",
        "val2014",
        write_vqav2,
        {"train2014": range(1, 3), "val2014": range(11, 14)},
        tuple(
            File(name.format(part), split, fields)
            for part, split in (("train2014", "calibration"), ("val2014", "search"))
            for name, fields in (
                ("v2_OpenEnded_mscoco_{}_questions.json", QUESTIONS),
                ("v2_mscoco_{}_annotations.json", ANNOTATIONS),
            )
        ),
    ),
    Layout(
        "gqa",
        "testdev",
        write_gqa,
        {"train": range(1, 3), "val": range(11, 13), "testdev": range(21, 23)},
        (
            File("train_balanced_questions.json", "calibration", GQA),
            File("val_balanced_questions.json", "search", GQA),
            File("testdev_balanced_questions.json", "evaluation", GQA),
        ),
    ),
    Layout(
        "coco",
        "karpathy",
        write_karpathy,
        {**DIVIDED, "restval": range(31, 33)},
        (File("dataset_coco.json", "evaluation", KARPATHY),),
    ),
    captions(2014),
    captions(2017),
    Layout(
        "flickr30k",
        "1k",
        write_flickr30k,
        DIVIDED,
        (File("dataset_flickr30k.json", "search", FLICKR),),
    ),
    Layout(
        "textvqa",
        "val",
        write_textvqa,
        {"train": range(1, 6), "val": range(11, 13)},
        (File("TextVQA_0.5.1_train.json", "search", TEXTVQA),),
    ),
    Layout(
        "docvqa",
        "val",
        write_docvqa,
        {"train": range(1, 6), "val": range(11, 13)},
        (File("spdocvqa_qas/val_v1.0_withQT.json", "evaluation", DOCVQA),),
    ),
    Layout(
        "chartqa",
        "test",
        write_chartqa,
        DIVIDED,
        (File("ChartQA Dataset/test/test_augmented.json", "evaluation", CHARTQA),),
    ),
    Layout(
        "pope",
        "random",
        write_pope,
        {"random": range(1, 11)},
        (File("coco_pope_random.json", "search", POPE, lines=True),),
    ),
)
