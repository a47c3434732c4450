"""A table is read alike however it was written, or refused with the line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError
from allocator.space.table import TableSpace, read_table
from allocator.tables.oracle import Oracle
from tests.space.test_table import SMALL, bits_of, write

if TYPE_CHECKING:
    from pathlib import Path

FORMS = {
    "semicolons": (";", str),
    "decimal commas": (";", lambda cell: cell.replace(".", ",")),
    "tabs": ("\t", str),
    "tabs and decimal commas": ("\t", lambda cell: cell.replace(".", ",")),
    "bars": ("|", str),
    "quotes": (",", lambda cell: f'"{cell}"'),
    "quoted decimal commas": (",", lambda cell: f'"{cell.replace(".", ",")}"'),
    "blanks": (" , ", str),
}
PLAIN = [
    ["a_bits", "b_bits", "bpw", "score"],
    ["2", "2.5", "2.35", "61.125"],
    ["4", "4.25", "4.205", "70.5"],
    ["16", "16", "16.0", "71.0"],
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\n", "\r"])
def test_a_table_is_the_same_however_a_spreadsheet_wrote_it(
    tmp_path: Path, form: str, encoding: str, newline: str
) -> None:
    delimiter, cell = FORMS[form]
    lines = [PLAIN[0], *([cell(each) for each in row] for row in PLAIN[1:])]
    path = tmp_path / "t.csv"
    text = newline.join(delimiter.join(line) for line in lines) + newline
    path.write_bytes(text.encode(encoding))
    found = read_table(path, "score", "bpw")
    assert found.keys == ("a_bits", "b_bits")
    assert [bits_of(row.allocation) for row in found.rows] == [
        (2, 2.5),
        (4, 4.25),
        (16, 16),
    ]
    assert [row.bpw for row in found.rows] == [2.35, 4.205, 16.0]
    oracle = Oracle(TableSpace(found, 16.0), 3)
    assert [oracle.read(row.allocation) for row in found.rows] == [61.125, 70.5, 71.0]


def test_the_line_by_which_a_spreadsheet_names_its_separator_is_passed_over(
    tmp_path: Path,
) -> None:
    text = "sep=;\na_bits;bpw;score\n2;2,5;1\n4;4,5;x\n"
    table = read_table(write(tmp_path, text), "score", "bpw")
    assert [row.bpw for row in table.rows] == [2.5, 4.5]
    assert [row.line for row in table.rows] == [3, 4]


def read_all(folder: Path, *scores: str) -> list[float]:
    lines = [f'{bits},{bits},"{score}"' for bits, score in enumerate(scores, start=2)]
    text = "\n".join(["a_bits,bpw,score", *lines]) + "\n"
    table = read_table(write(folder, text), "score", "bpw")
    oracle = Oracle(TableSpace(table, 16.0), len(scores))
    return [oracle.read(row.allocation) for row in table.rows]


def test_scores_in_percent_are_read_where_all_are(tmp_path: Path) -> None:
    assert read_all(tmp_path, "61.5%", "70 %") == [61.5, 70.0]
    with pytest.raises(DataError, match=r"line 3: the score '0\.7' is not in percent"):
        read_all(tmp_path, "61.5%", "0.7")
    with pytest.raises(DataError, match=r"line 3: the score '70%' is in percent"):
        read_all(tmp_path, "0.615", "70%")


def test_a_comma_that_may_be_either_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: the score '1,234' may be a decimal"):
        read_all(tmp_path, "1", "1,234")
    assert read_all(tmp_path, "1,234.5", "2,5") == [1234.5, 2.5]


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for content in (SMALL.encode("utf-16-le"), "é".encode("latin-1"), b"\xff\xfea"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is not a CSV file"):
            read_table(path, "score", "bpw")


def test_a_quote_that_never_ends_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2"):
        read_table(write(tmp_path, 'a_bits,bpw,score\n2,2,"1\n'), "score", "bpw")
