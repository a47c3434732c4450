"""The drawn world as a file of a user's own: pictures, and a row for each question."""

from __future__ import annotations

import json
import os
from random import Random
from typing import TYPE_CHECKING

from allocator.core.drafts import clear_drafts, draft_folder
from allocator.core.errors import DataError, FullError
from allocator.core.full import naming_the_disk
from evals.world.files import Part, part_scenes
from evals.world.language import ask
from evals.world.scene import jpeg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from evals.world.scene import Scene

# a name for its pictures, which are others than those of the official files
WORLD = "example"
EXAMPLE = Part("own", "pictures", 600, 4, 1)
ROWS = "samples.jsonl"


def write_example(out: Path) -> int:
    """Write 600 pictures and `samples.jsonl`, whole or not at all.

    A row is {"image": "pictures/1.jpg", "question": "...", "answer": "..."}.

    Args:
        out: a folder that is not there yet, or is empty.

    Returns:
        The number of rows.

    Raises:
        DataError: the folder holds something, or cannot be written.
    """
    try:
        out = out.resolve()
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise DataError(
                f"{out} is there already, and is no empty folder: name another one"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        clear_drafts(out.parent)
        with naming_the_disk(out.parent, out.name), draft_folder(out.parent) as draft:
            rows = list(_rows(draft))
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (draft / ROWS).write_text(text, encoding="utf-8")
            draft.chmod(0o777 & ~_umask())
            draft.replace(out)
    except FullError:
        raise
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}") from None
    return len(rows)


def example_scenes() -> list[tuple[int, Scene]]:
    """Number and scene of each picture."""
    return part_scenes(WORLD, EXAMPLE)


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    random = Random(f"{WORLD}/questions")
    (folder / EXAMPLE.folder).mkdir()
    for number, scene in example_scenes():
        image = f"{EXAMPLE.folder}/{number}.jpg"
        (folder / image).write_bytes(jpeg(scene))
        asked: dict[str, str] = {}
        while len(asked) < EXAMPLE.questions:
            question = ask(scene, random)
            asked.setdefault(question.text, question.answer)
        for text, answer in asked.items():
            yield {"image": image, "question": text, "answer": answer}


def _umask() -> int:
    """What new folders of this process do not allow; drafts allow nobody else."""
    found = os.umask(0)
    os.umask(found)
    return found
