"""The folder that an export is written into: whole or not at all."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.core.drafts import OLD, clear_drafts, draft_folder
from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

CARD = "README.md"
# a line of a card that nobody writes by hand: what has it may be replaced
MARK = "<!-- written by `allocate export`; --force replaces the whole folder -->"
# what an export of before has, without a card
PLAN = {"plan.json", "finalized"}
# bytes of a processor, a tokenizer, a card
SMALL_FILES = 3 * 10**7


def check_place(out: Path, *, force: bool) -> None:
    """Refuse a folder that cannot be written, or must not be.

    Args:
        out: where the export is to be.
        force: whether an earlier export there makes room.

    Raises:
        SpecError: something is in the way.
    """
    with _sayable(out):
        out, here = out.resolve(), Path.cwd().resolve()
        # an export that was killed while it took another's place gives that back
        clear_drafts(out.parent)
        if out.exists() and not out.is_dir():
            raise SpecError(f"{out} is in the way: it is a file, and no folder")
        held = sorted(file.name for file in out.iterdir()) if out.exists() else []
        if here.is_relative_to(out):
            raise SpecError(
                f"{out} is the folder you are in, or above it: name one within, such "
                f"as {here / 'export'}"
            )
        if held and not force:
            raise SpecError(
                f"{out} is not empty (it has {held[0]}): name another folder, or "
                "replace it with --force"
            )
        if held and not _is_export(out):
            raise SpecError(
                f"{out} is not empty (it has {held[0]}), and no export wrote it: "
                "--force replaces exports only; move it, or name another folder"
            )
        above = _nearest(out.parent)
        if not above.is_dir():
            raise SpecError(f"{above} is in the way: it is a file, and no folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise SpecError(f"cannot write {out}: {above} may not be written to")


def check_room(out: Path, needed: int) -> None:
    """Refuse what does not fit on the disk.

    Raises:
        SpecError: says how much is needed and how much there is.
    """
    free = shutil.disk_usage(_nearest(out.resolve())).free
    if needed + SMALL_FILES > free:
        raise SpecError(
            f"the export takes {needed / 1e9:,.2f} GB and the disk of {out} has "
            f"{free / 1e9:,.2f} GB free: free some, or name a folder on a larger one"
        )


@contextmanager
def draft_of(out: Path) -> Iterator[Path]:
    """An empty folder beside `out`, which takes its place unless something is raised.

    What is there makes room, and comes back where that fails.

    Raises:
        SpecError: it cannot be made.
    """
    out = out.resolve()
    with _parents_of(out), ExitStack() as stack:
        with _sayable(out):
            beside = stack.enter_context(draft_folder(out.parent))
            draft = beside / "new"
            draft.mkdir()
        yield draft
        with _sayable(out):
            _take_place(draft, out, beside / OLD)


def _take_place(draft: Path, out: Path, aside: Path) -> None:
    if not out.exists():
        draft.rename(out)
        return
    aside.mkdir()
    old = aside / out.name
    out.rename(old)
    try:
        draft.rename(out)
    except BaseException:
        old.rename(out)
        raise


@contextmanager
def _parents_of(out: Path) -> Iterator[None]:
    """Have the folders above; those made for this are taken away if it fails."""
    missing = [each for each in out.parents if not each.exists()]
    try:
        with _sayable(out):
            out.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in missing:
            with suppress(OSError):
                each.rmdir()
        raise


@contextmanager
def _sayable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SpecError(f"cannot write {out}: {error.strerror or error}") from None


def _is_export(folder: Path) -> bool:
    """Whether a folder was written by an export."""
    card = folder / CARD
    if card.is_file():
        with card.open(errors="replace") as opened:
            if MARK in opened.read(SMALL_FILES):
                return True
    return {file.name for file in folder.iterdir()} <= PLAN


def _nearest(folder: Path) -> Path:
    """A folder, or the nearest above it that exists."""
    return next(each for each in (folder, *folder.parents) if os.path.lexists(each))
