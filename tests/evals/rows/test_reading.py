"""What files are taken for where they can be meant."""

from __future__ import annotations

import base64
import csv
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import DataError
from allocator.core.ports import SPLITS, Selection
from tests.evals.own_files import (
    Rows,
    lines,
    opened,
    picture,
    rows,
    separated,
    write,
    write_pictures,
)

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Sample


def by_id(data: Path, **wishes: Any) -> dict[str, Sample]:
    """All samples of a file; of pictures that calibrate, the first question."""
    task = opened(data, **wishes)
    found = [
        sample
        for split in SPLITS
        for sample in task.samples(data, split, Selection(seed=0))
    ]
    return {sample.id: sample for sample in found}


def meant(folder: Path, entries: Rows, **wishes: Any) -> dict[str, Sample]:
    return by_id(write(folder, "samples.jsonl", lines(entries)), **wishes)


def answers(folder: Path, value: Any) -> tuple[str, ...]:
    """What is right where every row has this answer."""
    return meant(folder, rows(answer=value), metric="exact")["1"].references


def in_csv(folder: Path, value: str) -> tuple[str, ...]:
    file = write(folder, "samples.csv", separated(rows(answer=value)))
    return by_id(file, metric="exact")["2"].references


def test_rows_become_samples_under_their_numbers(tmp_path: Path) -> None:
    found = meant(tmp_path, rows())
    assert len(found) == 60
    sample = found["8"]
    assert sample.image == tmp_path / "7.png"
    assert (sample.prompt, sample.text) == ("vqa", "what is 7?")
    assert sample.references == ("thing 7",)
    assert sample.upright
    assert sample.choices == ()


def test_rows_of_a_spreadsheet_are_counted_with_their_header(tmp_path: Path) -> None:
    file = write(tmp_path, "samples.csv", separated(rows()))
    assert by_id(file)["2"].text == "what is 0?"
    task = opened(file)
    sample = task.samples(file, "search", Selection())[0]
    assert task.place(sample) == f"column 'image' in row {sample.id} of samples.csv"


def as_parquet(folder: Path, entries: Rows) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow reads parquet")
    write_pictures(folder)
    file = folder / "samples.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(entries), file)
    return file


def test_every_kind_of_file_says_the_same(tmp_path: Path) -> None:
    entries = [{**row, "id": f"q{n}"} for n, row in enumerate(rows())]
    texts = {
        "a.jsonl": lines(entries),
        "a.json": json.dumps(entries),
        "a.csv": separated(entries),
        "a.tsv": separated(entries, "\t"),
        "semicolons.csv": separated(entries, ";"),
        "a.JSONL": lines(entries),
    }
    files = [write(tmp_path, name, text) for name, text in texts.items()]
    if find_spec("pyarrow"):
        files.append(as_parquet(tmp_path, entries))
    first, *others = map(by_id, files)
    assert all(other == first for other in others)


def test_a_mark_of_the_encoding_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    text = separated(rows())
    plain = by_id(write(tmp_path, "a.csv", text))
    marked = b"\xef\xbb\xbf" + text.encode()
    assert by_id(write(tmp_path, "b.csv", marked)) == plain
    for end in ("\n", "\r"):
        assert by_id(write(tmp_path, "c.csv", text.replace("\r\n", end))) == plain
    marked = b"\xef\xbb\xbf" + lines(rows()).encode()
    kept = by_id(write(tmp_path, "a.jsonl", marked))
    ends = lines(rows()).replace("\n", "\r\n\r\n")
    spaced = by_id(write(tmp_path, "b.jsonl", ends))
    assert {each.text for each in kept.values()} == {s.text for s in spaced.values()}
    # empty lines are passed over, and counted
    assert set(spaced) == {str(2 * n + 1) for n in range(60)}


def test_quoted_cells_have_separators_quotes_and_line_breaks(tmp_path: Path) -> None:
    question = 'what is "it",\nthe one; there?\r\n'
    entries = [{**row, "question": question} for row in rows()]
    file = write(tmp_path, "samples.csv", separated(entries))
    assert by_id(file)["61"].text == question.strip()


def test_a_folder_means_its_samples(tmp_path: Path) -> None:
    write(tmp_path, "other.csv", separated(rows()))
    write(tmp_path, "samples.jsonl", lines(rows()))
    assert opened(tmp_path).meant.table.file == tmp_path / "samples.jsonl"


def test_cells_of_megabytes_are_read_and_the_limit_of_others_stays(
    tmp_path: Path,
) -> None:
    before = csv.field_size_limit()
    entries = [*rows(1, note="x" * 2_000_000), *rows(note="")[1:40]]
    file = write(tmp_path, "samples.csv", separated(entries))
    assert len(by_id(file)) == 40
    assert csv.field_size_limit() == before
    with pytest.raises(DataError) as kept:
        opened(write(tmp_path, "a.csv", separated(rows()) + "a,b\n"))
    # a sentence that somebody holds on to holds no lock
    assert len(by_id(file)) == 40
    assert kept.value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a cat", ("a cat",)),
        (" a cat\n", ("a cat",)),
        (["a cat", "cat"], ("a cat", "cat")),
        (3, ("3",)),
        (-0.50, ("-0.5",)),
        ([3, "three"], ("3", "three")),
        ([{"answer": "a", "answer_id": 1}, {"answer": "b"}], ("a", "b")),
        ({"text": ["a", "b"], "answer_start": [3, 9]}, ("a", "b")),
        ({"answer": "a"}, ("a",)),
        ("nan", ("nan",)),
    ],
)
def test_answers_are_texts_numbers_and_lists(
    value: Any, expected: tuple[str, ...], tmp_path: Path
) -> None:
    assert answers(tmp_path, value) == expected


def test_numbers_stay_as_they_are_written(tmp_path: Path) -> None:
    text = lines(rows(answer="NUMBER")).replace('"NUMBER"', "3.50")
    file = write(tmp_path, "samples.jsonl", text)
    assert by_id(file)["1"].references == ("3.50",)
    # more digits than Python counts with
    file = write(tmp_path, "samples.jsonl", text.replace("3.50", "1" * 5000))
    assert by_id(file)["1"].references == ("1" * 5000,)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a cat", ("a cat",)),
        ('["a cat", "cat"]', ("a cat", "cat")),
        ("3.50", ("3.50",)),
        ("[1, 2.0]", ("1", "2.0")),
        ('[{"answer": "a"}]', ("a",)),
        ("[unclear]", ("[unclear]",)),
        ("{a}", ("{a}",)),
        ("True", ("True",)),
    ],
)
def test_a_cell_of_text_may_be_a_list_in_json(
    value: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    assert in_csv(tmp_path, value) == expected


def test_numbers_of_tables_are_as_short_as_they_can_be(tmp_path: Path) -> None:
    for value, expected in ((3.0, "3"), (0.1, "0.1"), (12, "12"), (-2.5, "-2.5")):
        file = as_parquet(tmp_path, rows(answer=value))
        assert by_id(file)["1"].references == (expected,)


CHOICES = ["a cat", "a dog", "a bird"]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("A", "b", ("A", "B")),
        ("(A)", "C.", ("A", "C")),
        ("a cat", "A Dog", ("A", "B")),
        (0, 2, ("A", "C")),
        (["A", "a dog"], "C", ("A", "C")),
    ],
)
def test_right_choices_are_named_by_letter(
    first: Any, second: Any, expected: tuple[str, str], tmp_path: Path
) -> None:
    entries = [
        {**row, "answer": (first, second)[n % 2]}
        for n, row in enumerate(rows(choices=CHOICES))
    ]
    found = meant(tmp_path, entries)
    assert (found["1"].references[0], found["2"].references[0]) == expected
    assert found["1"].choices == tuple(CHOICES)
    assert len(found["1"].references) == (2 if isinstance(first, list) else 1)


def test_choices_are_shown_with_their_letters(tmp_path: Path) -> None:
    sample = meant(tmp_path, rows(choices=CHOICES, answer="A"))["1"]
    assert sample.prompt == "plain"
    assert sample.text == (
        "what is 0?\nA. a cat\nB. a dog\nC. a bird\n"
        "Answer with the option's letter from the given choices directly."
    )


def test_choices_stand_in_a_list_an_object_or_columns(tmp_path: Path) -> None:
    columns = dict(zip("ABC", CHOICES, strict=True))
    ways: list[dict[str, Any]] = [
        {"choices": CHOICES},
        {"options": columns},
        columns,
        {**columns, "D": None},
    ]
    first, *others = (meant(tmp_path, rows(answer="C", **way)) for way in ways)
    assert all(other == first for other in others)
    file = write(tmp_path, "a.tsv", separated(rows(answer="C", **columns), "\t"))
    assert by_id(file)["2"].choices == tuple(CHOICES)
    packed = separated(rows(answer="C", choices=json.dumps(CHOICES)))
    assert by_id(write(tmp_path, "a.csv", packed))["2"].choices == tuple(CHOICES)


def test_rows_may_have_different_numbers_of_choices(tmp_path: Path) -> None:
    entries = rows(A="red", B="green", C="blue", answer="B")
    entries[0]["C"] = None
    found = meant(tmp_path, entries)
    assert len(found["1"].choices) == 2
    assert len(found["2"].choices) == 3


@pytest.mark.parametrize(
    "name", ["image_path", "file_name", "Image Path", "IMG", "picture"]
)
def test_columns_are_known_by_the_names_that_people_give(
    name: str, tmp_path: Path
) -> None:
    entries = [
        {
            name: row["image"],
            "Prompt": row["question"],
            "label": row["answer"],
            "index": f"i{n}",
        }
        for n, row in enumerate(rows())
    ]
    found = meant(tmp_path, entries)
    assert found["i7"].text == "what is 7?"
    assert found["i7"].references == ("thing 7",)


def test_the_very_name_comes_before_others_that_could_be_meant(tmp_path: Path) -> None:
    entries = [{**row, "image_path": "elsewhere", "text": "x"} for row in rows()]
    assert meant(tmp_path, entries)["1"].text == "what is 0?"


def test_columns_that_are_named_come_before_their_names(tmp_path: Path) -> None:
    entries = [{**row, "other": "that"} for row in rows()]
    found = meant(tmp_path, entries, columns={"answers": "other"})
    assert found["1"].references == ("that",)


def test_pictures_lie_anywhere_on_this_machine(tmp_path: Path) -> None:
    ways = ["0.png", "./0.png", "../own/0.png", str(tmp_path / "own" / "0.png")]
    entries = [{**row, "image": ways[n % 4]} for n, row in enumerate(rows())]
    entries = [*entries[:4], *rows()[4:]]
    found = meant(tmp_path / "own", entries)
    # one picture is one file, whatever it is called
    names = {found[n].image for n in "1234" if n in found}
    assert len(names) == 1


def test_paths_of_windows_are_read(tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures")
    entries = [{**row, "image": f"pictures\\{row['image']}"} for row in rows()]
    assert meant(tmp_path, entries)["1"].image == tmp_path / "pictures/0.png"


def test_pictures_within_a_file_are_kept_by_content(tmp_path: Path) -> None:
    encoded = [base64.b64encode(picture(n)).decode() for n in range(60)]
    folded = [f"{text[:40]}\n{text[40:]}" for text in encoded]
    ways = [
        encoded,
        folded,
        [f"data:image/png;base64,{text}" for text in encoded],
        [{"bytes": text, "path": None} for text in encoded],
        [[text] for text in encoded],
    ]
    for held in ways:
        entries = [{**row, "image": held[n]} for n, row in enumerate(rows())]
        found = meant(tmp_path, entries)
        assert found["8"].image.parent == tmp_path / "cache"
        assert found["8"].image.suffix == ".png"
        assert found["8"].image.read_bytes() == picture(7)
    assert len(list((tmp_path / "cache").iterdir())) == 60


def test_pictures_of_a_file_are_not_held_in_memory(tmp_path: Path) -> None:
    entries = [
        {**row, "image": base64.b64encode(picture(n)).decode()}
        for n, row in enumerate(rows())
    ]
    task = opened(write(tmp_path, "samples.jsonl", lines(entries)))
    assert all("image" not in row.cells for row in task.meant.table.rows)


def test_pictures_of_parquet_are_read(tmp_path: Path) -> None:
    ways: list[Any] = [
        lambda n: {"bytes": picture(n), "path": f"{n}.png"},
        lambda n: {"bytes": None, "path": f"{n}.png"},
        picture,
    ]
    for way in ways:
        entries = [{**row, "image": way(n)} for n, row in enumerate(rows())]
        found = by_id(as_parquet(tmp_path, entries))
        assert found["8"].image.read_bytes() == picture(7)
