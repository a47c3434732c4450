"""Tasks as contracts ask them: those of a user's own file opened with one."""

from __future__ import annotations

import base64
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from allocator.core.own import FileTask, Wishes
from allocator.core.plugins import available, load
from tests.evals.own_files import COUNT, digests, picture, rows, separated

# a kind of file that all of them read
NAME = "samples.tsv"


def plug_in(name: str) -> Any:
    return load("evals.tasks", name, "task")


def file_tasks() -> list[str]:
    """Names of the tasks that are read from a user's own file."""
    names = available("evals.tasks")
    return [name for name in names if isinstance(plug_in(name), FileTask)]


def write_file(folder: Path, count: int = COUNT, **more: Any) -> Path:
    """A file of rows with their pictures in them."""
    entries = [
        {
            **row,
            "index": f"q{number}",
            "image": base64.b64encode(picture(number)).decode(),
            **more,
        }
        for number, row in enumerate(rows(count))
    ]
    file = folder / NAME
    file.write_text(separated(entries, "\t"), encoding="utf-8")
    return file


def of_file(name: str, data: Path, **wishes: Any) -> Any:
    """A task of a file or a folder; its pictures are kept beside it."""
    folder = data if data.is_dir() else data.parent
    return plug_in(name).opened(data, Wishes(folder / "cache", **wishes), digests)


@cache
def task_named(name: str) -> Any:
    """A task as it is asked: one of a file with a file, the same for all tests."""
    if name not in file_tasks():
        return plug_in(name)
    with tempfile.TemporaryDirectory() as folder:
        return of_file(name, write_file(Path(folder)))
