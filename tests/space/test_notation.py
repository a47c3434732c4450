"""Numbers are read as they were meant, or not at all."""

from __future__ import annotations

import math

import pytest

from allocator.space.notation import Notation


@pytest.mark.parametrize(
    ("cells", "delimiter", "commas"),
    [
        # nothing to go by
        (["4", "8"], ",", "unknown"),
        (["4", "1,234"], "\t", "unknown"),
        # a semicolon is there because the comma is taken
        (["4", "1,234"], ";", "decimal"),
        (["4", "2.520"], ";", "unknown"),
        (["2,5", "1,234"], "\t", "decimal"),
        (["0,123"], ",", "decimal"),
        (["1.234,5"], ";", "decimal"),
        (["2.5", "1,234"], ";", "thousands"),
        (["1,234.5"], ",", "thousands"),
        # some of each: only what is clear is read
        (["2.5", "2,5"], ";", "unknown"),
    ],
)
def test_a_file_shows_what_its_commas_are(
    cells: list[str], delimiter: str, commas: str
) -> None:
    assert Notation.of(cells, delimiter).commas == commas


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("4.25", 4.25),
        (" 4 ", 4.0),
        ("1e-3", 1e-3),
        ("2,5", 2.5),
        ("0,123", 0.123),
        ("-1,5", -1.5),
        ("\u22121.5", -1.5),
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("1,234,567", 1234567.0),
        ("1 234,5", 1234.5),
        ("1\u202f234", 1234.0),
        ("1'234.5", 1234.5),
        ("2.520", 2.52),
    ],
)
def test_what_is_clear_is_read_in_every_file(cell: str, value: float) -> None:
    assert Notation().number(cell) == value


def test_a_comma_before_three_digits_is_what_the_file_says() -> None:
    assert Notation("decimal", False).number("1,234") == 1.234
    assert Notation("thousands").number("1,234") == 1234.0
    assert math.isnan(Notation("unknown").number("1,234"))
    assert "may be a decimal or thousands" in Notation().not_a("number", "1,234")


def test_a_point_before_three_digits_is_unclear_beside_decimal_commas() -> None:
    beside = Notation.of(["2,5"], ";")
    assert math.isnan(beside.number("1.234"))
    assert beside.number("1.25") == 1.25


@pytest.mark.parametrize(
    "cell", ["", "x", "nan", "inf", "-inf", "4bit", "1,2,3", "1..2", "83.5 ± 0.3", "4%"]
)
def test_what_is_no_finite_number_is_none(cell: str) -> None:
    for notation in (Notation(), Notation("decimal", False), Notation("thousands")):
        assert math.isnan(notation.number(cell))
