"""Pictures of a user's own data, all read once before anything heavy begins."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from allocator.bench.ahead import made_ahead
from allocator.bench.contents import READABLE, memory_of, recalled, remember
from allocator.core.errors import DataError
from allocator.core.own import RowTask, named_rows
from allocator.families import read_image
from evals.taskset import TaskSet
from evals.worded import Worded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from allocator.bench.contents import Contents
    from allocator.core.watch import Watch

# decoders leave the interpreter to each other while they work
THREADS = 2
# one sample in so many may be left out
SHARE = 100


def readable(task: Any, contents: Contents, *, skip: bool) -> Any:
    """A task whose pictures can all be read, where they are of a user's own file.

    Published ones are returned as they are. What was read once, whatever it was called,
    is not read again.

    Args:
        task: a `Task`, or the `TaskSet` of several.
        contents: digests of files; its watch is shown the phase "reading pictures".
        skip: leave out samples whose pictures cannot be read.

    Returns:
        Of the same kind.

    Raises:
        DataError: a picture cannot be read; names its row and how many there are. With
            `skip`: more than 1 % of the samples, or all of a set.
    """
    if isinstance(task, TaskSet):
        parts = (readable(part, contents, skip=skip) for part in task.tasks)
        return replace(task, tasks=tuple(parts))
    if isinstance(task, Worded):
        return replace(task, task=readable(task.task, contents, skip=skip))
    return _readable(task, contents, skip) if isinstance(task, RowTask) else task


def _readable(task: RowTask, contents: Contents, skip: bool) -> Any:
    samples = task.rows()
    broken = _unreadable({sample.image for sample in samples}, contents)
    bad = [sample for sample in samples if sample.image in broken]
    if not bad:
        return task
    count = f"{len(bad):,} of {len(samples):,} samples"
    if not skip:
        more = f"; so it is with {count}" if len(bad) > 1 else ""
        raise DataError(
            f"{task.place(bad[0])} has a picture that is broken: "
            f"{broken[bad[0].image]}{more} (--skip-broken leaves out up to 1 %)"
        )
    if len(bad) * SHARE > len(samples):
        raise DataError(
            "--skip-broken leaves out at most 1 % of the samples, and the pictures of "
            f"{count} cannot be read: {named_rows([*map(task.place, bad)])}"
        )
    return task.without({sample.id for sample in bad})


def _unreadable(files: Iterable[Path], contents: Contents) -> dict[Path, str]:
    """Files of pictures that cannot be read, and why; the others are remembered."""
    # in one order: a run after one that was stopped goes on there
    ordered = sorted(files)
    there = [file for file in ordered if file.is_file()]
    held = contents.of(there, "pictures")
    # another Pillow may read less
    memory, reader = memory_of(READABLE), version("pillow")
    known = recalled(memory)
    # of several copies of one picture, one is read
    new = {held[file]: file for file in there if known.get(held[file]) != reader}
    fine: dict[str, str] = {}
    broken: dict[str, str] = {}
    try:
        for content, reason in _looked_at(new, contents.watch):
            if reason:
                broken[content] = reason
            else:
                fine[content] = reader
    finally:
        remember(memory, fine)
    found = {file: broken[held[file]] for file in there if held[file] in broken}
    return {file: f"{file} is missing" for file in ordered if file not in held} | found


def _looked_at(
    files: Mapping[str, Path], watch: Watch
) -> Iterator[tuple[str, str | None]]:
    """Each name with the reason why its picture cannot be read, or None."""
    if not files:
        return
    with (
        watch.phase("reading pictures") as tell,
        closing(made_ahead(files.items(), [_reason] * THREADS)) as looks,
    ):
        for done, ((content, _), look) in enumerate(looks):
            tell(done, len(files))
            yield content, look()
        tell(len(files), len(files))


def _reason(named: tuple[str, Path]) -> str | None:
    try:
        read_image(named[1], upright=True)
    except DataError as error:
        return str(error)
    return None
