from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import DataError, ReplyError
from allocator.core.ports import Sample, Selection
from evals.tasks._official import (
    by_id,
    check_paired,
    check_selection,
    existing,
    field,
    home,
    one_per_image,
    portion,
    rank,
    read_json,
    read_json_lines,
    share,
    shuffled,
)

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Asked:
    id: int
    image: int


QUESTIONS = [Asked(number, number // 3) for number in range(60)]


def test_a_task_has_a_folder_of_its_own_or_shares_one(tmp_path: Path) -> None:
    assert home(tmp_path, "gqa") == tmp_path
    (tmp_path / "gqa").mkdir()
    assert home(tmp_path, "gqa") == tmp_path / "gqa"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a JSON file"),
        (b'{"a": ', "is not a JSON file"),
        (b"\xff\xfe", "is not a JSON file"),
        (b"[" * 100_000, "is not a JSON file"),
        (b"1" * 5_000, "is not a JSON file"),
    ],
)
def test_a_file_that_is_no_json_is_named(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=rf"^a\.json in .* {message}$"):
        read_json(tmp_path, "a.json")


def test_a_file_below_a_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "annotations").touch()
    with pytest.raises(DataError, match=r"annotations/a\.json is missing: expected in"):
        read_json(tmp_path, "annotations/a.json")


def test_a_file_of_lines_is_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff{"a": 1}\n\n[2]\r\n"\u2028"', "utf-8")
    assert read_json_lines(tmp_path, "a.json") == [{"a": 1}, [2], "\u2028"]
    for content in ('{"a": 1}\n{"a": ', "{}\n{} {}", "[" * 100_000):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(DataError, match=r"a\.json .* JSON lines: see line [12]$"):
            read_json_lines(tmp_path, "a.json")


def test_of_each_object_that_is_kept_which_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": {"raw": "x", "b": [1]}, "c": 2}')
    found = read_json(tmp_path, "a.json", lambda entry: entry.get("raw", entry))
    assert found == {"a": "x", "c": 2}


@pytest.mark.parametrize("row", [{}, {"a": "1"}, {"a": None}, {"a": True}, [], "a", 1])
def test_a_field_of_another_type_is_refused(row: object) -> None:
    with pytest.raises(DataError, match=r"^b\.json .* 'a' of type int is missing$"):
        field(row, "a", int, "b.json")
    assert field({"a": 1}, "a", int, "b.json") == 1


def test_two_entries_of_one_id_are_refused() -> None:
    assert list(by_id(QUESTIONS, "a.json")) == list(range(60))
    with pytest.raises(DataError, match=r"^a\.json has two entries of the same id 7$"):
        by_id([*QUESTIONS, Asked(7, 0)], "a.json")


@pytest.mark.parametrize("name", ["a.jpg", "a" * 5_000, "a\0b", "\ud800", ".", ""])
def test_a_name_that_is_no_file_is_a_missing_image(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"^the image of question 1 is missing: "):
        existing(tmp_path / name, "question 1")


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_fraction_that_is_no_share_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match=f"above 0 and at most 1, got {fraction}"):
        check_selection(Selection(0, fraction), "vqav2", ("a", "b"))


def test_a_subset_is_one_of_those_known() -> None:
    check_selection(Selection(0, 1.0, "b"), "vqav2", ("a", "b"))
    with pytest.raises(DataError, match=r"vqav2 has no subset 'c' \(known: a, b\)"):
        check_selection(Selection(subset="c"), "vqav2", ("a", "b"))


def test_a_tenth_of_val2014_is_what_was_published() -> None:
    assert portion(214_354, 0.1) == 21_435
    assert (portion(100, 0.29), portion(5, 0.001), portion(5, 1.0)) == (29, 1, 5)


def test_any_name_has_a_rank_which_the_seed_changes() -> None:
    assert rank(0, 42) == rank(0, "42") != rank(1, 42)
    assert len(rank(0, "\ud800")) == 8


def test_more_items_keep_the_order_of_the_others() -> None:
    few = shuffled(QUESTIONS[:20], 0)
    assert few == [each for each in shuffled(QUESTIONS, 0) if each.id < 20]
    assert few != shuffled(QUESTIONS[:20], 1)


def test_a_share_of_items_keeps_their_order() -> None:
    assert share(QUESTIONS, Selection()) == share(QUESTIONS, Selection(0, 1.0))
    third = share(QUESTIONS, Selection(0, 1 / 3))
    assert len(third) == 20
    assert third == sorted(third, key=lambda each: each.id)
    assert set(third) < set(share(QUESTIONS, Selection(0, 0.5)))
    assert set(third) != set(share(QUESTIONS, Selection(1, 1 / 3)))


def test_one_question_is_taken_on_each_of_some_images() -> None:
    found = one_per_image(QUESTIONS, 0, 15)
    assert len({each.image for each in found}) == len(found) == 15
    # not always the first of an image's three
    assert len({each.id % 3 for each in found}) == 3
    assert found == one_per_image(reversed(QUESTIONS), 0, 99)[:15]


def test_predictions_are_of_one_kind_and_as_many_as_samples(tmp_path: Path) -> None:
    samples = [Sample(name, tmp_path, "vqa", "", ("x",)) for name in "ab"]
    check_paired(["x", ""], samples, str, "replies")
    with pytest.raises(ReplyError, match="got 1 replies for 2 samples"):
        check_paired(["x"], samples, str, "replies")
    with pytest.raises(ReplyError, match="got 0 replies for 0 samples"):
        check_paired([], [], str, "replies")
    with pytest.raises(ReplyError, match="got NoneType for sample b, where replies"):
        check_paired(["x", None], samples, str, "replies")
