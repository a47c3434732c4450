"""Files that cannot be read: one sentence each, which names row and column."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from tests.evals.own_files import changed, lines, rows, sentence, separated, write

if TYPE_CHECKING:
    from pathlib import Path

TEXTS: dict[str, tuple[str, str | bytes, str]] = {
    "nothing": ("samples.jsonl", "", "samples.jsonl has no rows"),
    "truncated": (
        "samples.jsonl",
        lines(rows())[:-5],
        "line 60 of samples.jsonl is not JSON: it ends in the middle",
    ),
    "no JSON": ("samples.jsonl", lines(rows()) + "image: 1\n", "line 61 .*is not JSON"),
    "lists in JSON lines": (
        "samples.jsonl",
        json.dumps(rows()),
        "line 1 .*is a list, not an object .*called .json",
    ),
    "key twice": (
        "samples.jsonl",
        lines(rows()) + '{"image": "1.png", "image": "2.png"}\n',
        "line 61 .*has 'image' twice",
    ),
    "mixed encodings": (
        "samples.jsonl",
        lines(rows()).encode() + b'{"image": "1.png", "answer": "\xe9t\xe9"}\n',
        "'answer' in line 61 .*is not in UTF-8",
    ),
    "deep": ("samples.jsonl", "[" * 99999, "line 1 .*nested too deeply"),
    "UTF-16": ("samples.jsonl", lines(rows()).encode("utf-16"), "is in UTF-16"),
    "zeros": ("samples.jsonl", b"\0" * 99, "line 1 .*is not JSON"),
    "no list": ("samples.json", '{"data": []}', "is an object, not a list of objects"),
    "lines in a list": ("samples.json", lines(rows()), "is not JSON: .*called .jsonl"),
    "truncated list": (
        "samples.json",
        json.dumps(rows(), indent=1)[:-9],
        "samples.json is not JSON: it ends in the middle",
    ),
    "entry of a list": (
        "samples.json",
        json.dumps([*rows(), 3]),
        "entry 61 .*is a number, not an object",
    ),
    "header alone": ("samples.csv", "image,question\r\n", "samples.csv has no rows"),
    "no header": ("samples.csv", b"\n\n", "samples.csv has no rows"),
    "column twice": (
        "samples.csv",
        "image,answer,answer\n1.png,a,b\n",
        "the header of samples.csv has the column 'answer' twice",
    ),
    "cells too many": (
        "samples.csv",
        separated(rows()) + "1.png,what is it, and why?,thing\n",
        "row 62 of samples.csv has 4 cells, and the header 3",
    ),
    "cells too few": ("samples.csv", separated(rows()) + "1.png\n", "row 62 .*1 cells"),
    "open quote": (
        "samples.csv",
        separated(rows()).replace("thing 7", '"thing 7'),
        "row 9 of samples.csv cannot be cut into cells",
    ),
    "stray quote": (
        "samples.csv",
        separated(rows()).replace("thing 7", '"thing" 7'),
        "row 9 of samples.csv cannot be cut into cells",
    ),
    "another encoding": (
        "samples.csv",
        separated(rows()).replace("thing 7", "café").encode("latin-1"),
        "'answer' in row 9 of samples.csv is not in UTF-8",
    ),
    "header in another encoding": (
        "samples.csv",
        separated(rows()).replace("answer", "réponse").encode("latin-1"),
        "the header of samples.csv is not in UTF-8",
    ),
    "NUL": (
        "samples.csv",
        separated(rows()).replace("thing 7", "thing\0"),
        "'answer' in row 9 .*NUL",
    ),
    "empty cell": (
        "samples.csv",
        separated(rows()).replace("thing 7", ""),
        "'answer' in row 9 .*is empty, and other rows have answers",
    ),
    "NaN as text": (
        "samples.csv",
        separated(rows()).replace("thing 7", "nan"),
        "'answer' in row 9 .*nan.*leave it empty",
    ),
    "list as Python prints it": (
        "samples.csv",
        separated(rows(answer="['a', 'b']")),
        "'answer' in row 2 .*no list in JSON",
    ),
    "line breaks count": (
        "samples.csv",
        separated(changed(2, question="what\nis\nit?")).replace("thing 7", ""),
        # rows of a spreadsheet, in which a cell may have several lines
        "'answer' in row 9 ",
    ),
    "semicolons in a file of tabs": (
        "samples.tsv",
        separated(rows(), ";"),
        "no column of samples.tsv",
    ),
    "not parquet": ("samples.parquet", b"PAR1nothingPAR1", "samples.parquet cannot be"),
    "unknown ending": ("samples.xlsx", b"PK", "samples.xlsx .*no kind .*.csv, .json"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_cannot_be_read_are_named(name: str, tmp_path: Path) -> None:
    file, text, expected = TEXTS[name]
    assert re.search(expected, sentence(write(tmp_path, file, text)))


def test_a_path_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    assert "there is no file" in sentence(tmp_path / "nothing.csv")
    assert "has no samples.*" in sentence(tmp_path)


def test_two_files_in_a_folder_are_named(tmp_path: Path) -> None:
    write(tmp_path, "samples.csv", separated(rows()))
    write(tmp_path, "samples.jsonl", lines(rows()))
    assert "has samples.csv and samples.jsonl: name one" in sentence(tmp_path)


def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what is None there cannot be imported
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    said = sentence(write(tmp_path, "samples.parquet", b"PAR1"))
    assert "samples.parquet needs pyarrow (pip install pyarrow)" in said
