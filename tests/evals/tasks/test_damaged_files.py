"""Every official file, missing, cut off or changed: one sentence, never a crash."""

from __future__ import annotations

from copy import deepcopy
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import DataError
from allocator.core.ports import SPLITS
from evals.splits import check_disjoint
from tests.evals.layouts import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.core.ports import Split
    from tests.evals.layouts import File, Layout

ABSENT = object()
# of no field's type: truth is a number to Python alone
WRONG = (ABSENT, None, True, 1.5, {})
OTHERS = (*WRONG, -1, 10**30, "", "x" * 5_000, "a\0b", "\ud800", [], [[]], ["x"])


FILES = [(layout, file) for layout in LAYOUTS for file in layout.files]
EACH_FILE = pytest.mark.parametrize(
    ("layout", "file"), FILES, ids=[file.name for _, file in FILES]
)
EACH_LAYOUT = pytest.mark.parametrize(
    "layout", LAYOUTS, ids=[f"{each.task}-{each.subset}" for each in LAYOUTS]
)


@pytest.fixture
def data(layout: Layout, tmp_path: Path) -> Path:
    layout.write(tmp_path, layout.parts)
    return tmp_path


def refusal(layout: Layout, folder: Path, split: Split) -> str:
    """The sentence that a damaged folder is refused with, or nothing."""
    try:
        assert layout.samples(folder, split)
    except DataError as error:
        text = str(error)
        assert text
        assert text.isprintable()
        return text
    return ""


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in some JSON: what holds it and the key or number there."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from places(content[key])


def holders(content: Any, names: list[str]) -> Iterator[Any]:
    """Every object that has the last of some names as a key."""
    if len(names) == 1:
        yield content
    elif names[0] == "*":
        inner = content.values() if isinstance(content, dict) else content
        for each in inner:
            yield from holders(each, names[1:])
    else:
        yield from holders(content[names[0]], names[1:])


def put(holder: Any, key: Any, value: Any) -> None:
    if value is ABSENT:
        del holder[key]
    else:
        holder[key] = value


@EACH_LAYOUT
def test_an_official_folder_has_all_three_splits(layout: Layout, data: Path) -> None:
    found = {split: layout.samples(data, split) for split in SPLITS}
    assert all(found.values())
    check_disjoint(**found)


@EACH_FILE
def test_a_file_that_cannot_be_read_is_named(
    layout: Layout, file: File, data: Path
) -> None:
    path = data / file.name
    for content in ("", "{", "[]", "null", "3", '"x"', "{}", '{"images": 3}', "NaN"):
        path.write_text(content)
        assert file.name in refusal(layout, data, file.split)
    path.write_bytes(b"\xff\xfe\x00")
    assert file.name in refusal(layout, data, file.split)
    path.unlink()
    assert f"{file.name} is missing: expected in" in refusal(layout, data, file.split)
    path.mkdir()
    assert f"{file.name} in {data} is unread" in refusal(layout, data, file.split)


@EACH_FILE
def test_a_file_that_is_cut_off_anywhere_is_named(
    layout: Layout, file: File, data: Path
) -> None:
    path = data / file.name
    whole = path.read_bytes()
    random = Random(file.name)
    for _ in range(40):
        left = whole[: random.randrange(len(whole))]
        if file.lines and left.rstrip().endswith(b"}"):
            continue  # whole lines may be a file
        path.write_bytes(left)
        assert f"{file.name} in" in refusal(layout, data, file.split)


@EACH_FILE
def test_a_field_that_is_missing_or_of_another_type_is_named(
    layout: Layout, file: File, data: Path
) -> None:
    whole = file.read(data)
    for name in file.fields:
        keys = name.split("/")
        for value in WRONG:
            content = deepcopy(whole)
            for holder in list(holders(content, keys)):
                put(holder, keys[-1], value)
            file.write(data, content)
            message = refusal(layout, data, file.split)
            assert f"{file.name} is not in the official format" in message
            assert f"{keys[-1]!r} of type" in message


@EACH_FILE
def test_whatever_changes_in_a_file_it_is_read_or_refused(
    layout: Layout, file: File, data: Path
) -> None:
    whole = file.read(data)
    random = Random(file.name)
    n_places = sum(1 for _ in places(whole))
    refused = 0
    for _ in range(80):
        content = deepcopy(whole)
        number = random.randrange(n_places)
        holder, key = next(p for n, p in enumerate(places(content)) if n == number)
        put(holder, key, random.choice(OTHERS))
        file.write(data, content)
        refused += refusal(layout, data, file.split) != ""
    assert refused


@EACH_FILE
def test_whatever_bytes_are_wrong_in_a_file_it_is_read_or_refused(
    layout: Layout, file: File, data: Path
) -> None:
    path = data / file.name
    whole = path.read_bytes()
    random = Random(file.name)
    for _ in range(40):
        content = bytearray(whole)
        content[random.randrange(len(whole))] = random.randrange(256)
        path.write_bytes(content)
        refusal(layout, data, file.split)


@EACH_LAYOUT
@pytest.mark.parametrize("split", SPLITS)
def test_a_missing_image_is_named(layout: Layout, data: Path, split: Split) -> None:
    for picture in [*data.rglob("*.jpg"), *data.rglob("*.png")]:
        picture.unlink()
    message = refusal(layout, data, split)
    assert "is missing: expected '" in message
    assert message.endswith((".jpg'", ".png'"))


@EACH_FILE
def test_a_file_of_another_data_set_is_refused(
    layout: Layout, file: File, data: Path
) -> None:
    for other, source in FILES:
        if source.name != file.name and other.task != layout.task:
            other.write(data / "other", other.parts)
            content = (data / "other" / source.name).read_text()
            (data / file.name).write_text(content)
            assert file.name in refusal(layout, data, file.split)
