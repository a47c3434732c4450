"""Data folders as the official downloads give them, but with a few pictures.

Each function writes one layout: file names, field names and the fields that no task
reads are those of the official files.
"""

from __future__ import annotations

import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

INFO = {"description": "A few pictures", "version": "1.0", "year": 2014}
LICENSES = [{"id": 1, "name": "Attribution License", "url": "http://example.org"}]
PER_IMAGE = 3
Parts = dict[str, range]


@cache
def jpeg() -> bytes:
    kept = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 90)).save(kept, "JPEG")
    return kept.getvalue()


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg())


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def captions_of(image: int) -> list[str]:
    """Five sentences; no two pictures have the same words."""
    return [f"Word{image} number {i}, next to a thing{image}.\n" for i in range(5)]


def write_vqav2(folder: Path, parts: Parts) -> None:
    """Write questions, annotations and pictures of train2014 or val2014."""
    for part, images in parts.items():
        questions, annotations = [], []
        for image in images:
            write_picture(folder / part / f"COCO_{part}_{image:012d}.jpg")
            for number in range(image * 1000, image * 1000 + PER_IMAGE):
                names = {"image_id": image, "question_id": number}
                questions.append({**names, "question": f"What is {number}?"})
                annotations.append({**names, **_ten_answers(f"answer {number}")})
        head = {
            "info": INFO,
            "license": LICENSES[0],
            "data_type": "mscoco",
            "data_subtype": part,
        }
        write(
            folder / f"v2_OpenEnded_mscoco_{part}_questions.json",
            {**head, "task_type": "Open-Ended", "questions": questions},
        )
        write(
            folder / f"v2_mscoco_{part}_annotations.json",
            {**head, "annotations": annotations},
        )


def _ten_answers(answer: str) -> dict[str, Any]:
    answers = [answer] * 9 + ["other"]
    return {
        "question_type": "what is",
        "answer_type": "other",
        "multiple_choice_answer": answer,
        "answers": [
            {"answer": each, "answer_confidence": "yes", "answer_id": place}
            for place, each in enumerate(answers, 1)
        ],
    }


def write_gqa(folder: Path, parts: Parts) -> None:
    """Write questions and pictures of train, val or testdev."""
    for part, images in parts.items():
        questions = {}
        for image in images:
            write_picture(folder / "images" / f"n{image}.jpg")
            for number in range(image * 10, image * 10 + PER_IMAGE):
                questions[f"{number:09d}"] = _gqa_question(image, number)
        write(folder / f"{part}_balanced_questions.json", questions)


def _gqa_question(image: int, number: int) -> dict[str, Any]:
    return {
        "semantic": [
            {"operation": "select", "dependencies": [], "argument": "bus (1)"},
            {"operation": "query", "dependencies": [0], "argument": "color"},
        ],
        "entailed": [],
        "equivalent": [f"{number:09d}"],
        "question": f"What is {number}?",
        "imageId": f"n{image}",
        "isBalanced": True,
        "groups": {"global": None, "local": "14-bus_color"},
        "answer": f"answer {number}",
        "semanticStr": "select: bus (1)->query: color [0]",
        "annotations": {"answer": {}, "question": {"2": "1"}, "fullAnswer": {}},
        "types": {"detailed": "attr", "semantic": "attr", "structural": "query"},
        "fullAnswer": f"It is answer {number}.",
    }


def write_coco(folder: Path, parts: Parts) -> None:
    """Write captions and pictures of train2014, val2014, train2017 or val2017."""
    for part, images in parts.items():
        prefix = f"COCO_{part}_" if part.endswith("2014") else ""
        rows, annotations = [], []
        for image in images:
            name = f"{prefix}{image:012d}.jpg"
            write_picture(folder / part / name)
            rows.append(
                {
                    "license": 1,
                    "file_name": name,
                    "coco_url": f"http://images.cocodataset.org/{part}/{name}",
                    "height": 4,
                    "width": 4,
                    "date_captured": "2013-11-14 11:18:45",
                    "flickr_url": "http://example.org",
                    "id": image,
                }
            )
            annotations += [
                {"image_id": image, "id": image * 10 + place, "caption": text}
                for place, text in enumerate(captions_of(image))
            ]
        write(
            folder / "annotations" / f"captions_{part}.json",
            {
                "info": INFO,
                "images": rows,
                "licenses": LICENSES,
                # the official files do not group them by image
                "annotations": annotations[::2] + annotations[1::2],
            },
        )


def write_karpathy(folder: Path, parts: Parts) -> None:
    """Write Karpathy's file of COCO and pictures of train, restval, val or test."""
    rows = []
    for part, images in parts.items():
        place = "train2014" if part == "train" else "val2014"
        for image in images:
            name = f"COCO_{place}_{image:012d}.jpg"
            write_picture(folder / place / name)
            names = {"filepath": place, "filename": name, "cocoid": image}
            rows.append({**names, **_sentences(image), "split": part})
    write(folder / "dataset_coco.json", {"images": rows, "dataset": "coco"})


def write_flickr30k(folder: Path, parts: Parts) -> None:
    """Write Karpathy's file of Flickr30k and pictures of train, val or test."""
    rows = []
    for part, images in parts.items():
        for image in images:
            name = f"{image}.jpg"
            write_picture(folder / "flickr30k-images" / name)
            rows.append({**_sentences(image), "split": part, "filename": name})
    write(folder / "dataset_flickr30k.json", {"images": rows, "dataset": "flickr30k"})


def _sentences(image: int) -> dict[str, Any]:
    texts: Iterable[tuple[int, str]] = enumerate(captions_of(image))
    return {
        "sentids": [image * 5 + place for place in range(5)],
        "imgid": image,
        "sentences": [
            {
                "tokens": text.replace(",", "").replace(".", "").lower().split(),
                "raw": text,
                "imgid": image,
                "sentid": image * 5 + place,
            }
            for place, text in texts
        ],
    }
