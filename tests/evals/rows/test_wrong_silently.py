"""Files that could be read otherwise than they are meant, without a word."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.evals.own_files import (
    changed,
    lines,
    opened,
    rows,
    sentence,
    separated,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Sample


def first(folder: Path, entries: list[dict[str, Any]]) -> Sample:
    sample: Sample = opened(write(folder, "samples.jsonl", lines(entries))).rows()[0]
    return sample


def test_a_comma_that_is_not_quoted_ends_no_answer(tmp_path: Path) -> None:
    # a spreadsheet's empty last column would take what stands behind the comma
    text = separated(rows()).replace("\r\n", ",\r\n").replace("thing 7,", "yes, it is")
    said = sentence(write(tmp_path, "samples.csv", text))
    assert "row 9 of samples.csv has 'it is' in column 4, which has no name" in said
    # the index that pandas writes has no name either
    entries = [{"": n, **row} for n, row in enumerate(rows())]
    assert opened(write(tmp_path, "samples.csv", separated(entries))).rows()


def test_a_blank_before_a_quote_makes_it_no_part_of_the_cell(tmp_path: Path) -> None:
    text = "image, question, answer\n" + "".join(
        f'{n}.png, "what, then?", "a thing"\n' for n in range(60)
    )
    sample = opened(write(tmp_path, "samples.csv", text)).rows()[0]
    assert (sample.text, sample.references) == ("what, then?", ("a thing",))


def test_quotes_of_two_rows_take_in_none_between_them(tmp_path: Path) -> None:
    entries = rows()
    entries[6]["question"] = "QUOTEstop"
    entries[8]["question"] = "what is thisQUOTE"
    text = separated(entries, "\t").replace("QUOTE", '"')
    # a line break of the cell, and those of the rows, are one to the reader
    said = sentence(write(tmp_path, "samples.tsv", text.replace("\r\n", "\n")))
    assert "row 8 of samples.tsv has several rows in one cell" in said
    cell = 'a\tb\n"c"'
    entries = [{**row, "question": cell} for row in rows()]
    file = write(tmp_path, "samples.tsv", separated(entries, "\t"))
    assert opened(file).rows()[0].text == cell


def test_letters_before_choices_are_not_shown_twice(tmp_path: Path) -> None:
    for choices in (
        ["A. red", "B. green"],
        ["(a) red", "(b) green"],
        ["A) red", "B)green"],
    ):
        sample = first(tmp_path, rows(choices=choices, answer="B"))
        assert sample.choices == ("red", "green")
        assert sample.references == ("B",)
    sample = first(tmp_path, rows(choices=["A. red", "B. green"], answer="B. green"))
    assert sample.references == ("B",)
    columns = rows(A="A. red", B="B. green", answer="green")
    assert first(tmp_path, columns).choices == ("red", "green")
    # initials are no letters of choices
    names = ["J. Smith", "B. Brown"]
    assert first(tmp_path, rows(choices=names, answer="A")).choices == tuple(names)


def test_a_whole_number_with_a_point_is_said(tmp_path: Path) -> None:
    file = write(tmp_path, "samples.jsonl", lines(rows(answer=3.0)))
    said = "60 answers are whole numbers with a point: 3.0 is right for exact"
    assert any(said in remark for remark in opened(file).summary.remarks)
    remarks = opened(file, metric="relaxed").summary.remarks
    assert not any("with a point" in remark for remark in remarks)


def test_answers_that_are_not_there_are_not_passed_over(tmp_path: Path) -> None:
    file = write(tmp_path, "samples.jsonl", lines(rows(answer=None)))
    assert not any("passed over" in each for each in opened(file).summary.remarks)


REFUSED: dict[str, tuple[str, str, str]] = {
    "letters in another order": (
        "samples.jsonl",
        lines(rows(choices=["B. red", "A. green"], answer="A")),
        "'choices' in line 1 .*lettered B, A: write them in the order",
    ),
    "another choice's text": (
        "samples.jsonl",
        lines(rows(choices=["A. red", "B. green"], answer="A. green")),
        "'answer' in line 1 .*'A. green', which is none of the choices",
    ),
    "two columns of a choice": (
        "samples.jsonl",
        lines(rows(A="red", option_A="blue", B="green", answer="A")),
        "'A' and 'option_A' of samples.jsonl can each be its choice A",
    ),
    "number of thousands of digits": (
        "samples.csv",
        separated(rows(choices='["a cat", "a dog"]', answer="1" * 5000)),
        "'answer' in row 2 .*111 ..., which is none of the choices",
    ),
    "lost character": (
        "samples.jsonl",
        lines(changed(7, answer="th\ufffdng")),
        "'answer' in line 7 .*character that was lost",
    ),
    "mark of a picture": (
        "samples.jsonl",
        lines(changed(7, question="<image>\nwhat is it?")),
        "'question' in line 7 .*has <image>, and the picture has a place of its own",
    ),
    **{
        word: (
            "samples.csv",
            separated(rows()).replace("thing 7", word),
            f"'answer' in row 9 .*{re.escape(word)}, which stands for nothing",
        )
        for word in ("NULL", "<NA>", "#N/A", "\\N")
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused(name: str, tmp_path: Path) -> None:
    file, text, expected = REFUSED[name]
    assert re.search(expected, sentence(write(tmp_path, file, text)))


def test_questions_that_the_search_has_no_place_for_are_said(tmp_path: Path) -> None:
    # three pictures, of which one guides the search
    entries = [{**rows(3)[n % 3], "question": f"what is {n}?"} for n in range(3300)]
    summary = opened(write(tmp_path, "samples.jsonl", lines(entries))).summary
    assert summary.counts["search"] == 1000
    said = "100 samples of a picture that guides the search are left out: it takes"
    assert any(remark.startswith(said) for remark in summary.remarks)


def test_objects_on_several_lines_are_told_from_damage(tmp_path: Path) -> None:
    text = "\n".join(json.dumps(row, indent=1) for row in rows())
    said = sentence(write(tmp_path, "samples.jsonl", text))
    assert "line 1 of samples.jsonl is not JSON" in said
    assert "each object stands on one line" in said


def test_metrics_that_take_answers_to_the_letter_say_what_they_take(
    tmp_path: Path,
) -> None:
    def remarks(metric: str | None = None, **cells: Any) -> str:
        file = write(tmp_path, "samples.csv", separated(rows(**cells)))
        return "; ".join(opened(file, metric=metric).summary.remarks)

    assert "answers are True and False" in remarks(answer=True)
    assert "answers are True and False" not in remarks(answer="yes")
    assert "letters of choices: to exact" in remarks("exact", A="a", B="b", answer="B")
    assert "letters of choices" not in remarks(A="a", B="b", answer="B")


def test_a_few_missing_answers_do_not_change_the_metric(
    tmp_path: Path,
) -> None:
    entries = rows(answer=[f"a {n}" for n in range(10)])
    entries[6]["answer"] = ["a"] * 9
    file = write(tmp_path, "samples.jsonl", lines(entries))
    # one of nine people's answers is not fully right
    assert opened(file).summary.metric == "vqa"
    entries[6]["answer"] = ["a"] * 3
    file = write(tmp_path, "samples.jsonl", lines(entries))
    assert opened(file).summary.metric == "exact"


def test_a_picture_may_be_spoken_of_by_its_number(tmp_path: Path) -> None:
    text = "What is in <image 1>?"
    assert first(tmp_path, rows(question=text)).text == text


def test_answers_that_a_metric_cannot_score_are_named_with_their_column(
    tmp_path: Path,
) -> None:
    file = write(tmp_path, "samples.jsonl", lines(rows()))
    said = sentence(file, metric="vqa")
    assert said.startswith("column 'answer' of samples.jsonl: sample 1 has one answer")
