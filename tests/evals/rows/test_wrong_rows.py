"""Rows that cannot be meant: one sentence each, which names row and column."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.evals.own_files import changed, lines, picture, rows, sentence, write

if TYPE_CHECKING:
    from pathlib import Path

INLINE = base64.b64encode(picture(1)).decode()


def without(row: int, column: str) -> list[dict[str, Any]]:
    found = rows()
    del found[row - 1][column]
    return found


def split(*values: str) -> list[dict[str, Any]]:
    """Rows whose first ones are in these sets, and the others in turn."""
    sets = ("calibration", "search", "evaluation")
    return [
        {**row, "split": values[n] if n < len(values) else sets[n % 3]}
        for n, row in enumerate(rows())
    ]


def lettered(row: int | None = None, **cells: Any) -> list[dict[str, Any]]:
    found = rows(A="red", B="green", C="blue", answer="B")
    if row is not None:
        found[row - 1].update(cells)
    return found


def listed(answer: Any, *choices: Any) -> list[dict[str, Any]]:
    return rows(choices=list(choices), answer=answer)


JSON_LINES: dict[str, tuple[Any, str]] = {
    "no rows": ([], "samples.jsonl has no rows"),
    "too few": (rows(39), "samples.jsonl has 39 samples.*40 at least"),
    "a list": ([*rows(), [1]], "line 61 .*is a list, not an object"),
    "a text": ([*rows(), "x"], "line 61 .*is a text, not an object"),
    "a number": ([*rows(), 3], "line 61 .*is a number, not an object"),
    "null": ([*rows(), None], "line 61 .*is null, not an object"),
    "missing picture": (
        changed(7, image="x.png"),
        "column 'image' in line 7 .*is missing: expected .*x.png",
    ),
    "folder as picture": (changed(7, image="."), "'image' in line 7 .*is missing"),
    "no picture": (without(7, "image"), "'image' in line 7 .*has nothing for"),
    "blank picture": (changed(7, image=" "), "'image' in line 7 .*for a picture"),
    "number as picture": (changed(7, image=7), "'image' in line 7 .*7 for a picture"),
    "null as picture": (changed(7, image=None), "'image' in line 7 .*nothing for a"),
    "two pictures": (
        changed(7, image=["1.png", "2.png"]),
        "'image' in line 7 .*has 2 pictures",
    ),
    "NUL in a path": (changed(7, image="a\0b"), "'image' in line 7 .*NUL"),
    "endless path": (changed(7, image="x" * 99999), "'image' in line 7 .*is no path"),
    "URL": (
        changed(7, image="https://example.org/1.png"),
        "'image' in line 7 .*https://example.org/1.png.*fetch it",
    ),
    "truncated base64": (
        changed(7, image=INLINE[:-3]),
        "'image' in line 7 .*damaged or truncated base64",
    ),
    "data of no picture": (
        changed(7, image="data:image/png;base64,aGVsbG8gd29ybGQ="),
        "'image' in line 7 .*no picture that is known .PNG",
    ),
    "data that are not base64": (
        changed(7, image="data:image/svg+xml,<svg/>"),
        "'image' in line 7 .*not in base64",
    ),
    "object without picture": (
        changed(7, image={"bytes": None, "path": None}),
        "'image' in line 7 .*without a picture",
    ),
    "no answer": (without(7, "answer"), "'answer' in line 7 .*is empty"),
    "null answer": (changed(7, answer=None), "'answer' in line 7 .*is empty"),
    "empty list": (changed(7, answer=[]), "'answer' in line 7 .*is empty"),
    "empty answer": (changed(7, answer=""), "'answer' in line 7 .*blank text"),
    "blank answer": (changed(7, answer=[" "]), "'answer' in line 7 .*blank text"),
    "nested lists": (changed(7, answer=[["a"]]), "'answer' in line 7 .*\\['a'\\]"),
    "null in a list": (
        changed(7, answer=["a", None]),
        "'answer' in line 7 .*nothing",
    ),
    "truth value": (changed(7, answer=True), "'answer' in line 7 .*is true: .*yes"),
    "NaN": (changed(7, answer=float("nan")), "'answer' in line 7 .*is NaN"),
    "infinity": (changed(7, answer=float("inf")), "'answer' in line 7 .*inf"),
    "object": (changed(7, answer={"a": 1}), "'answer' in line 7 .*object with 'a'"),
    "half a character": (
        changed(7, answer="\ud83d"),
        "'answer' in line 7 .*half a character",
    ),
    "no question": (without(7, "question"), "'question' in line 7 .*a question"),
    "blank question": (changed(7, question=" "), "'question' in line 7 .*blank"),
    "list as question": (changed(7, question=["a"]), "'question' in line 7 .*'a'"),
    "same ids": (
        [{**row, "id": n // 2} for n, row in enumerate(rows())],
        "'id' in line 2 .*is 0, as in line 1",
    ),
    "no id": (
        [{**row, "id": n if n != 6 else None} for n, row in enumerate(rows())],
        "'id' in line 7 .*is empty, and other rows have an id",
    ),
    "unknown set": (
        split("search", "test"),
        "'split' in line 2 .*'test', and others are among calibration, search",
    ),
    "no set": (split("search", ""), "'split' in line 2 .*is ''"),
    "empty set": (
        split(*["search", "evaluation"] * 30),
        "no row .*is in the set 'calibration'",
    ),
    "picture in two sets": (
        [{**r, "image": "3.png"} if n == 1 else r for n, r in enumerate(split())],
        "'image' in line 4 .*picture of line 2, which is in another set",
    ),
    "one picture": (rows(image="1.png"), "1 different pictures: no picture may be"),
    "choices of some": (
        [*listed("a", "a", "b")[:-1], changed(60)[59]],
        "'choices' in line 60 .*is empty, and other rows have choices",
    ),
    "one choice": (listed("a", "a"), "'choices' in line 1 .*has 1 choices"),
    "choices in a text": (
        rows(choices="a, b", answer="a"),
        "'choices' in line 1 .*'a, b', not a list of choices",
    ),
    "27 choices": (listed("0", *map(str, range(27))), "'choices' in line 1 .*27"),
    "none of the choices": (
        listed("c", "a cat", "a dog"),
        "'answer' in line 1 .*'c', which is none of the choices",
    ),
    "letter and text": (
        listed("B", "B", "A"),
        "'answer' in line 1 .*'B', which can be each of A, B",
    ),
    "same choices": (
        listed("red", "red", "red"),
        "'answer' in line 1 .*can be each of A, B",
    ),
    "number of a choice": (
        listed(1, "a cat", "a dog"),
        "'answer' in line 1 .*is 1: no answer of the file is 0.*write letters",
    ),
    "number that may be a text": (
        [*listed(0, "5", "6")[1:], *listed(1, "1", "2")[:1]],
        "'answer' in line 60 .*is 1, which can be each of A, B",
    ),
    "gap in choices": (lettered(7, B=None), "'B' in line 7 .*choice behind it is not"),
    "no choice": (
        lettered(7, A=None, B=None, C=None),
        "'A' in line 7 .*is empty, and other rows have choices",
    ),
    "no column of pictures": (
        [{"pic": "1.png", "question": "?"}] * 40,
        "no column .*columns: pic, question.*--columns image=",
    ),
    "two columns of pictures": (
        [{"img": row["image"], "file_name": "1.png"} for row in rows()],
        "'img' and 'file_name' .*--columns image=img",
    ),
    "two columns of answers": (
        [{**row, "label": "1"} for row in rows()],
        "'answer' and 'label' .*--columns answers=answer",
    ),
    "slip of a name": (
        [{"image": row["image"], "answerz": "a", "question": "?"} for row in rows()],
        "column 'answerz' of samples.jsonl looks like its answers: .*answers=answerz",
    ),
    "questions of an unknown name": (
        [{"image": r["image"], "answer": "a", "ask": "?"} for r in rows()],
        "no column .*questions .columns: image, answer, ask.: .*or answers=answer",
    ),
    "answers of an unknown name": (
        [{"image": r["image"], "question": "?", "gold_text": "a"} for r in rows()],
        "column 'gold_text' .*may hold answers: .*answers=gold_text, or --metric agr",
    ),
    "nothing known but pictures": (
        [{"image": row["image"], "conversations": []} for row in rows()],
        "no column .*questions or answers .columns: image, conversations.*agreement",
    ),
    "text of an unclear kind": (
        [{"image": row["image"], "text": "a thing"} for row in rows()],
        "'text' .*question or a caption: .*question=text or answers=text",
    ),
}


@pytest.mark.parametrize("name", JSON_LINES)
def test_rows_that_cannot_be_meant_are_named(name: str, tmp_path: Path) -> None:
    entries, expected = JSON_LINES[name]
    file = write(tmp_path, "samples.jsonl", lines(entries))
    assert re.search(expected, sentence(file))


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"questions": "question"}, "no role .*'questions'.*Did you mean 'question'"),
        ({"answers": "answerz"}, "no column in samples.jsonl 'answerz'.*'answer'"),
        ({"answers": "answer", "id": "answer"}, "names 'answer' for two things"),
        ({"split": "answer"}, "'answer' in line 1 .*'thing 0': sets are calibration"),
    ],
)
def test_columns_that_are_named_have_to_be_there(
    columns: dict[str, str], expected: str, tmp_path: Path
) -> None:
    file = write(tmp_path, "samples.jsonl", lines(rows()))
    assert re.search(expected, sentence(file, columns=columns))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("exactly", "no metric 'exactly'.*Did you mean 'exact'"),
        ("choice", "--metric choice needs choices, and samples.jsonl has none"),
        ("vqa", "one answer; VQA accuracy needs those of several people"),
    ],
)
def test_a_metric_that_the_data_cannot_serve_is_refused(
    metric: str, expected: str, tmp_path: Path
) -> None:
    file = write(tmp_path, "samples.jsonl", lines(rows()))
    assert re.search(expected, sentence(file, metric=metric))
