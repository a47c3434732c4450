from __future__ import annotations

import json
import stat
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from allocator.core.errors import DataError
from evals.world.example import ROWS, example_scenes, write_example
from evals.world.scene import SIDE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example") / "new" / "shop"
    assert write_example(folder) == 2400
    return folder


def test_every_row_asks_another_question_about_a_picture_that_is_there(
    shop: Path,
) -> None:
    rows = [json.loads(line) for line in (shop / ROWS).read_text().splitlines()]
    assert len({(row["image"], row["question"]) for row in rows}) == len(rows) == 2400
    assert Counter(Counter(row["image"] for row in rows).values()) == {4: 600}
    assert all((shop / row["image"]).is_file() and row["answer"] for row in rows)
    with Image.open(shop / rows[0]["image"]) as image:
        assert (image.format, image.size) == ("JPEG", (SIDE, SIDE))


def test_what_is_counted_is_what_is_shown(shop: Path) -> None:
    rows = [json.loads(line) for line in (shop / ROWS).read_text().splitlines()]
    things = {f"pictures/{number}.jpg": len(s.things) for number, s in example_scenes()}
    counted = [row for row in rows if row["question"] == "how many objects are there?"]
    assert len(counted) > 20
    assert all(row["answer"] == str(things[row["image"]]) for row in counted)


def test_the_folder_is_one_as_any_other(shop: Path) -> None:
    beside = shop.parent / "other"
    beside.mkdir()
    assert stat.S_IMODE(shop.stat().st_mode) == stat.S_IMODE(beside.stat().st_mode)
    assert {entry.name for entry in shop.parent.iterdir()} == {"shop", "other"}


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(DataError, match="is there already, and is no empty folder"):
        write_example(tmp_path)
    with pytest.raises(DataError, match="cannot be written: File exists"):
        write_example(tmp_path / "kept.txt" / "inside")
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept.txt"]
