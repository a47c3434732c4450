from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from PIL import Image, PngImagePlugin

from allocator.core.errors import DataError
from allocator.families._pictures import STDERR, read_image
from allocator.families._together import Together

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

THREADS = 4


def test_the_first_thread_enters_and_the_last_one_leaves() -> None:
    told: list[str] = []

    @contextmanager
    def noted() -> Iterator[None]:
        told.append("in")
        yield
        told.append("out")

    together, both = Together(noted), Barrier(2, timeout=20)

    def be_in(_: int) -> list[str]:
        with together():
            both.wait()
            seen = list(told)
            both.wait()
        return seen

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(be_in, range(2))) == [["in"], ["in"]]
    assert told == ["in", "out"]
    with pytest.raises(ValueError, match="within"), together():
        raise ValueError("within")
    assert told == ["in", "out"] * 2


def test_pictures_are_read_by_threads_and_the_process_is_as_before(
    tmp_path: Path,
) -> None:
    files = []
    for number in range(12):
        # a TIFF whose reading is muted, a PNG, and one that is none
        files.append(tmp_path / f"{number}.{('tif', 'png', 'jpg')[number % 3]}")
        if number % 3 == 2:
            files[-1].write_bytes(b"no picture")
        else:
            Image.effect_noise((64, 64), 50).convert("RGB").save(files[-1])

    def sort(file: Path) -> str:
        try:
            return str(read_image(file).mode)
        except DataError:
            return "refused"

    before = PngImagePlugin.MAX_TEXT_CHUNK, list(warnings.filters)
    written = os.fstat(STDERR).st_ino, os.fstat(STDERR).st_dev
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(sort, files * 5))
    assert found == ["RGB", "RGB", "refused"] * 20
    assert before == (PngImagePlugin.MAX_TEXT_CHUNK, list(warnings.filters))
    assert written == (os.fstat(STDERR).st_ino, os.fstat(STDERR).st_dev)
