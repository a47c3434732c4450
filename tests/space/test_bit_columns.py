"""Columns of groups are told from averages, sizes and notes; bad cells are named."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError
from allocator.space.csv_file import read_csv

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.space.sheet import CsvFile

GRID = list(itertools.product((1.58, 2, 4.25, 7), repeat=3))


def sheet(
    folder: Path, *more: tuple[str, list[object]], bits: str | None = None
) -> CsvFile:
    """Three groups on a grid, further columns, and a score."""
    names = ["a_bits", "b_bits", "c_bits", *(name for name, _ in more), "score"]
    lines = [",".join(names)]
    for at, row in enumerate(GRID):
        lines.append(",".join(map(str, [*row, *(cells[at] for _, cells in more), at])))
    path = folder / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_csv(path, ("score",), bits)


def test_any_positive_width_is_a_level_and_whole_ones_are_whole(tmp_path: Path) -> None:
    found = sheet(tmp_path, ("d_bits", ["4.0"] * 63 + ["32"]), ("e_bits", ["0.5"] * 64))
    assert found.keys == ("a_bits", "b_bits", "c_bits", "d_bits", "e_bits")
    assert found.notes == ()
    assert found.bits[0] == (1.58, 1.58, 1.58, 4, 0.5)
    assert found.bits[-1] == (7, 7, 7, 32, 0.5)
    assert [type(width) for width in found.bits[-1]] == [int, int, int, int, float]


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("mean_bits", [sum(row) / 3 for row in GRID], "named like a mean or a sum"),
        ("total_bits", [4] * 64, "named like a mean or a sum"),
        ("bpw_bits", [""] * 64, "named like a mean or a sum"),
        ("model_bits", [f"{sum(row) / 3:.2f}" for row in GRID], "an average of"),
        # weighted, with what stays at 16 bits
        (
            "whole_bits",
            [f"{0.9 * (0.2 * a + 0.1 * b + 0.7 * c) + 1.6:.3f}" for a, b, c in GRID],
            "an average of",
        ),
        ("note_bits", ["x"] * 64, "no number in it"),
        ("size_bits", [10**9 + at for at in range(64)], "above 64 in every row"),
    ],
)
def test_what_is_no_group_is_left_out_and_said(
    tmp_path: Path, name: str, cells: list[object], why: str
) -> None:
    found = sheet(tmp_path, (name, cells))
    assert found.keys == ("a_bits", "b_bits", "c_bits")
    (said,) = found.notes
    assert f"{name} ({why}" in said
    assert "--bits" in said


def test_a_group_that_is_asked_for_is_one_whatever_its_name(tmp_path: Path) -> None:
    mean = ("mean_bits", [sum(row) / 3 for row in GRID])
    found = sheet(tmp_path, mean, bits="mean_bits,a_bits")
    assert found.keys == ("a_bits", "mean_bits")
    assert found.notes == ()


def test_groups_that_were_varied_together_are_groups(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = [f"{bits},{bits},{bits},1" for bits in (1.58, 2.5, 3.5, 4.25, 5, 6, 7, 8.5)]
    path.write_text("\n".join(["a_bits,b_bits,c_bits,score", *rows]) + "\n")
    found = read_csv(path, ("score",))
    assert found.keys == ("a_bits", "b_bits", "c_bits")


@pytest.mark.parametrize("cell", ["0", "-4", "", "x", "nan", "inf", "65", "4bit", "4%"])
@pytest.mark.parametrize("bits", [None, "*_bits"])
def test_a_cell_that_is_no_width_is_refused_with_its_line(
    tmp_path: Path, cell: str, bits: str | None
) -> None:
    with pytest.raises(DataError) as caught:
        sheet(tmp_path, ("d_bits", ["4"] * 10 + [cell] + ["4"] * 53), bits=bits)
    # the header is line 1, so the eleventh row is line 12
    said = str(caught.value)
    assert f"line 12: d_bits {cell!r} is not a width" in said
    assert "\n" not in said


def test_widths_spelled_otherwise_in_every_row_are_refused_too(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: d_bits 'int4' is not a width"):
        sheet(tmp_path, ("d_bits", ["int4"] * 64))


def test_a_table_of_averages_alone_says_so(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("avg_bits,score\n3.5,1\n4.5,2\n")
    with pytest.raises(DataError) as caught:
        read_csv(path, ("score",))
    assert "no bit columns: only avg_bits (named like a mean" in str(caught.value)
    assert read_csv(path, ("score",), "avg_bits").keys == ("avg_bits",)
