"""The world as files, in the layout the official downloads give."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from allocator.core.drafts import clear_drafts, draft_folder
from allocator.core.full import naming_the_disk
from evals.world.language import GQA, ask, captions, human_answers
from evals.world.scene import SIDE, draw_scene, jpeg

if TYPE_CHECKING:
    from pathlib import Path

    from evals.world.scene import Scene

VERSION = 1
MARK = "splits.json"  # written last: where it exists, the world is complete


@dataclass(frozen=True)
class Part:
    """Scenes of one split: their number, questions for each, the first image id."""

    name: str
    folder: str
    images: int
    questions: int
    first: int
    fewest: int = 1


COCO = (
    Part("calibration", "train2014", 160, 1, 1),
    Part("search", "val2014", 500, 2, 100_001),
    Part("evaluation", "val2014", 1_000, 2, 200_001),
)
GQA_PARTS = (
    Part("train", "images", 160, 1, 1),
    Part("val", "images", 500, 2, 100_001),
    Part("testdev", "images", 1_000, 2, 200_001),
)
FLICKR = (
    Part("train", "flickr30k-images", 160, 5, 1, 2),
    Part("val", "flickr30k-images", 200, 5, 100_001, 2),
    Part("test", "flickr30k-images", 500, 5, 200_001, 2),
)


# bytes that the files take on a disk
WORLD_BYTES = 23 * 10**6


def ensure_world(cache: Path) -> Path:
    """Folder of the world's files, written first if it is not there yet."""
    folder = cache / f"world-{VERSION}"
    if not (folder / MARK).exists():
        with naming_the_disk(cache, "the drawn world", WORLD_BYTES):
            cache.mkdir(parents=True, exist_ok=True)
            clear_drafts(cache)
            with draft_folder(cache) as draft:
                _take_place(draft, folder)
    return folder


def _take_place(draft: Path, folder: Path) -> None:
    """Draw the world into a draft, and put it in its place unless others did."""
    try:
        write_world(draft)
        if not (folder / MARK).exists():
            shutil.rmtree(folder, ignore_errors=True)
            draft.rename(folder)
    except OSError:
        # another process may have finished the same folder meanwhile
        if not (folder / MARK).exists():
            raise


def write_world(folder: Path) -> None:
    """Write calibration, search and evaluation files of all four tasks."""
    scenes = {part.name: _scenes(folder, "coco", part) for part in COCO}
    for kind, parts in (("train2014", COCO[:1]), ("val2014", COCO[1:])):
        _write_vqa(folder, kind, parts, scenes)
        _write_captions(folder, kind, parts, scenes)
    _write_gqa(folder / "gqa")
    _write_flickr(folder / "flickr30k")
    ids = {part.name: [id for id, _ in scenes[part.name]] for part in COCO[1:]}
    _dump(folder / "coco_splits.json", ids)
    # question ids are image id x 10 + number, as in VQAv2
    splits = {
        part.name: [i * 10 + q for i in ids[part.name] for q in range(part.questions)]
        for part in COCO[1:]
    }
    _dump(folder / MARK, splits)


def _dump(file: Path, value: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def file_name(part: Part, image_id: int) -> str:
    """Name of an image file as its data set spells it."""
    if part.folder.endswith("2014"):
        return f"COCO_{part.folder}_{image_id:012d}.jpg"
    return f"{image_id}.jpg"


def part_scenes(world: str, part: Part) -> list[tuple[int, Scene]]:
    """Image id and scene of everything in a part."""
    random = Random(f"{world}/{part.name}/{VERSION}")
    return [
        (part.first + i, draw_scene(random, part.fewest)) for i in range(part.images)
    ]


def _scenes(folder: Path, world: str, part: Part) -> list[tuple[int, Scene]]:
    """Draw a part's scenes and write their pictures."""
    scenes = part_scenes(world, part)
    (folder / part.folder).mkdir(parents=True, exist_ok=True)
    for image_id, scene in scenes:
        file = folder / part.folder / file_name(part, image_id)
        file.write_bytes(jpeg(scene))
    return scenes


def _write_vqa(
    folder: Path,
    kind: str,
    parts: tuple[Part, ...],
    scenes: dict[str, list[tuple[int, Scene]]],
) -> None:
    questions, annotations = [], []
    for part in parts:
        random = Random(f"vqav2/{part.name}/{VERSION}")
        for image_id, scene in scenes[part.name]:
            for number in range(part.questions):
                names = {"image_id": image_id, "question_id": image_id * 10 + number}
                question = ask(scene, random)
                questions.append({**names, "question": question.text})
                answers = human_answers(question, random)
                annotations.append(
                    {
                        **names,
                        "question_type": question.kind,
                        "answer_type": _answer_type(question.answer),
                        "multiple_choice_answer": question.answer,
                        "answers": [
                            {"answer": a, "answer_confidence": "yes", "answer_id": i}
                            for i, a in enumerate(answers, 1)
                        ],
                    }
                )
    head = {
        "info": {"description": "A drawn world", "version": str(VERSION)},
        "license": {"name": "Apache-2.0", "url": "http://www.apache.org/licenses/"},
        "data_type": "mscoco",
        "data_subtype": kind,
    }
    name = f"v2_OpenEnded_mscoco_{kind}_questions.json"
    _dump(folder / name, {**head, "task_type": "Open-Ended", "questions": questions})
    _dump(
        folder / f"v2_mscoco_{kind}_annotations.json",
        {**head, "annotations": annotations},
    )


def _answer_type(answer: str) -> str:
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdigit() else "other"


def _write_captions(
    folder: Path,
    kind: str,
    parts: tuple[Part, ...],
    scenes: dict[str, list[tuple[int, Scene]]],
) -> None:
    images, annotations = [], []
    for part in parts:
        for image_id, scene in scenes[part.name]:
            name = file_name(part, image_id)
            images.append(
                {"id": image_id, "file_name": name, "width": SIDE, "height": SIDE}
            )
            for number, text in enumerate(captions(scene)):
                id = image_id * 10 + number
                annotations.append({"image_id": image_id, "id": id, "caption": text})
    name = f"annotations/captions_{kind}.json"
    _dump(folder / name, {"images": images, "annotations": annotations})


def _write_gqa(folder: Path) -> None:
    for part in GQA_PARTS:
        random = Random(f"gqa/questions/{part.name}/{VERSION}")
        questions = {}
        for image_id, scene in _scenes(folder, "gqa", part):
            for number in range(part.questions):
                question = ask(scene, random, GQA)
                questions[f"{image_id * 10 + number}"] = {
                    "imageId": str(image_id),
                    "question": question.text,
                    "answer": question.answer,
                    "fullAnswer": f"it is {question.answer}",
                    "types": {"detailed": question.kind},
                    "isBalanced": True,
                }
        _dump(folder / f"{part.name}_balanced_questions.json", questions)


def _write_flickr(folder: Path) -> None:
    images = []
    for part in FLICKR:
        for image_id, scene in _scenes(folder, "flickr30k", part):
            told = captions(scene)
            ids = [image_id * 10 + number for number in range(len(told))]
            images.append(
                {
                    "filename": file_name(part, image_id),
                    "split": part.name,
                    "imgid": image_id,
                    "sentids": ids,
                    "sentences": [
                        {
                            "raw": text,
                            "tokens": text.replace(",", "").split(),
                            "imgid": image_id,
                            "sentid": id,
                        }
                        for id, text in zip(ids, told, strict=True)
                    ],
                }
            )
    _dump(folder / "dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})
