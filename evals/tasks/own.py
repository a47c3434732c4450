"""A file of your own: pictures, questions and answers, with or without each of them.

`--data` is a .jsonl, .json, .csv, .tsv or .parquet file, or a folder with `samples.*`:

    {"image": "photos/1.jpg", "question": "What is it?", "answers": ["a cat", "cat"]}

A row has a picture (a path from the file on, or base64), and if wanted a question (else
pictures are captioned), answers (else replies are compared with those of full
precision), choices (a list, or columns A, B, C, ...), an id and a set (`split`:
calibration, search or evaluation). Which column holds what follows from the names of
`evals.rows.columns.ROLES`, or from `--columns`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.rows.task import Kind

if TYPE_CHECKING:
    from allocator.core.own import FileTask

PLUGIN: FileTask = Kind("own")
