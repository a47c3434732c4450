"""Folders of benchmarks as the official downloads give them, but with a few pictures.

Each function writes one layout: file names, field names and the fields that no task
reads are those of the official files.
"""

from __future__ import annotations

import base64
import csv
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.evals.data_folders import PER_IMAGE, jpeg, write

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Asked(NamedTuple):
    """A question about a picture, by number, and its answer."""

    image: int
    picture: bytes
    question: str
    answer: str


# what is asked in each part, or numbers of pictures about which anything is
Parts = dict[str, range] | dict[str, list[Asked]]


def _rows(asked: range | Sequence[Asked], yes_or_no: bool = False) -> list[Asked]:
    if not isinstance(asked, range):
        return list(asked)
    times = range(2) if yes_or_no else range(PER_IMAGE)
    return [
        Asked(
            image,
            jpeg(),
            f"What is {image * 10 + number}?",
            ("yes", "no")[number] if yes_or_no else f"answer {image * 10 + number}",
        )
        for image in asked
        for number in times
    ]


def _put(path: Path, picture: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture)


def write_textvqa(folder: Path, parts: Mapping[str, Any]) -> None:
    """Write questions and pictures of train or val."""
    for part, asked in parts.items():
        rows = []
        for number, each in enumerate(_rows(asked)):
            name = f"{each.image:016x}"
            _put(folder / "train_images" / f"{name}.jpg", each.picture)
            rows.append(
                {
                    "question": each.question,
                    "image_id": name,
                    "image_classes": ["Poster"],
                    "flickr_original_url": "http://example.org/o.jpg",
                    "flickr_300k_url": "http://example.org/z.jpg",
                    "image_width": 4,
                    "image_height": 4,
                    "answers": [each.answer] * 9 + ["unanswerable"],
                    "question_tokens": each.question.lower().split(),
                    "question_id": 100_000 * len(part) + number,
                    "set_name": part,
                }
            )
        head = {"dataset_type": part, "dataset_name": "textvqa"}
        write(
            folder / f"TextVQA_0.5.1_{part}.json",
            {**head, "dataset_version": "0.5.1", "data": rows},
        )


def write_docvqa(folder: Path, parts: Mapping[str, Any]) -> None:
    """Write questions and pages of train or val, as they are downloaded today."""
    _write_docvqa(folder, parts, "spdocvqa_qas/{}_v1.0_withQT.json", "spdocvqa_images")


def write_docvqa_first(folder: Path, parts: Mapping[str, Any]) -> None:
    """Write questions and pages of train or val, as they were first released."""
    _write_docvqa(folder, parts, "{}/{}_v1.0.json", "{}/documents")


def _write_docvqa(
    folder: Path, parts: Mapping[str, Any], file: str, pictures: str
) -> None:
    for part, asked in parts.items():
        rows = []
        for number, each in enumerate(_rows(asked)):
            page = f"page{each.image:04d}_1"
            _put(folder / pictures.format(part) / f"{page}.png", each.picture)
            rows.append(
                {
                    "questionId": 100_000 * len(part) + number,
                    "question": each.question,
                    "question_types": ["handwritten", "form"],
                    "image": f"documents/{page}.png",
                    "docId": each.image,
                    "ucsf_document_id": f"page{each.image:04d}",
                    "ucsf_document_page_no": "1",
                    "answers": [each.answer, f"{each.answer}."],
                    "data_split": part,
                }
            )
        head = {"dataset_name": "SP-DocVQA", "dataset_split": part}
        write(
            folder / file.format(part, part),
            {**head, "dataset_version": "1.0", "data": rows},
        )


def write_chartqa(folder: Path, parts: Mapping[str, Any]) -> None:
    """Write questions and charts of train, val or test: half of them by people."""
    for part, asked in parts.items():
        rows = _rows(asked)
        place = folder / "ChartQA Dataset" / part
        for half, some in (("human", rows[::2]), ("augmented", rows[1::2])):
            for each in some:
                _put(place / "png" / f"{each.image}.png", each.picture)
            write(
                place / f"{part}_{half}.json",
                [
                    {
                        "imgname": f"{each.image}.png",
                        "query": each.question,
                        "label": each.answer,
                    }
                    for each in some
                ],
            )


def write_pope(folder: Path, parts: Mapping[str, Any]) -> None:
    """Write questions of some kinds, and the photographs; lines, each of them JSON."""
    for kind, asked in parts.items():
        lines = []
        for number, each in enumerate(_rows(asked, yes_or_no=True), 1):
            name = f"COCO_val2014_{each.image:012d}.jpg"
            _put(folder / "val2014" / name, each.picture)
            row = {"question_id": number, "image": name}
            lines.append({**row, "text": each.question, "label": each.answer})
        write_lines(folder / f"coco_pope_{kind}.json", lines)


def tsv_rows(asked: Sequence[Asked]) -> list[dict[str, str]]:
    """Rows of a TSV file as MMBench has them: a picture again is an index."""
    first: dict[bytes, str] = {}
    rows = []
    for number, each in enumerate(asked):
        index = str(number + 200)
        held = base64.b64encode(each.picture).decode()
        rows.append(
            {
                "index": index,
                "image": first.get(each.picture, held),
                "question": each.question,
                "hint": "",
                "A": f"not {each.answer}",
                "B": each.answer,
                "C": "",
                "answer": "B",
                "category": f"category {number % 3}",
                "l2-category": f"group {number % 2}",
                "split": "dev",
            }
        )
        first.setdefault(each.picture, index)
    return rows


def write_tsv(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write a TSV file as pandas does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file, list(rows[0]), delimiter="\t", lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(rows)


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, rows: Sequence[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
