"""Rows of a table whose measurement came to nothing."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError
from allocator.explain.explanation import explain_table
from allocator.space.notation import PLAIN
from allocator.space.sheet import Scores
from allocator.tables.replay import ReplayRequest, run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def small(tmp_path: Path, scores: Iterable[object]) -> Path:
    path = tmp_path / "small.csv"
    rows = zip((2, 3, 4), scores, strict=True)
    lines = [f"{bits},{bits},{bits},{score}" for bits, score in rows]
    path.write_text("\n".join(["a_bits,b_bits,bpw,score", *lines]) + "\n")
    return path


@pytest.mark.parametrize(
    "cell", ["nan", " inf", "-inf", "\N{MINUS SIGN}Infinity", "NaN"]
)
def test_a_measurement_that_failed_is_told_from_what_is_no_number(cell: str) -> None:
    scores = Scores("table.csv", "score", PLAIN)
    assert scores.read("12 %", 2) == 12
    assert math.isnan(scores.read(cell, 3))
    for other in ("", "none", "nano", "1e999"):
        with pytest.raises(DataError, match=r"line 4: the score .* finite number"):
            scores.read(other, 4)


def test_a_row_that_says_that_its_measurement_failed_is_read_and_left_out(
    tmp_path: Path,
) -> None:
    path = small(tmp_path, [3.0, "nan", 1.0])
    found = run(ReplayRequest(path, "score", "4", trials=3))
    assert found.best[1] == 3.0
    assert len(found.read) == 2
    told = found.to_json()
    json.dumps(told, allow_nan=False)
    assert (told["trials"]["complete"], told["trials"]["failed"]) == (2, 1)
    assert [each["failed"] for each in told["uniform"]] == [False, True, False]
    assert told["uniform"][1]["score"] is None
    said = "1 row has no finite number as a score and counts as failed (line 3)"
    assert said in found.notes
    explained = explain_table(path, "score")
    assert explained["importance"]["rows"] == 2
    assert said in explained["notes"]


def test_a_table_of_failed_measurements_alone_is_refused(tmp_path: Path) -> None:
    path = small(tmp_path, ["nan"] * 3)
    with pytest.raises(DataError, match=r"none of 3 scores read of small\.csv is"):
        run(ReplayRequest(path, "score", "4", trials=3))
    with pytest.raises(DataError, match=r"none of 3 scores of .*small.csv is a finite"):
        explain_table(path, "score")
