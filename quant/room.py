"""Room for what is made: the bytes it takes, and folders and disks that hold it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from allocator.core.allocation import linear_bytes
from allocator.core.errors import BankError
from quant.bank import MANIFEST
from quant.cells import SUFFIX
from quant.files import DRAFT, locked
from quant.streaming import SPOOLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.allocation import Scheme
    from allocator.core.spec import Linear
    from quant.bank import Recipe
    from quant.finalized import Assignment


# in a folder of finalized weights: locked by who makes or takes them away
CLAIM = ".claim"


def discard(folder: Path) -> None:
    """Take away finalized weights, when nobody is making them; the folder stays."""
    if folder.is_dir():
        with locked(folder / CLAIM):
            clear(folder)


def clear(folder: Path) -> None:
    """Take away whatever there is, the manifest first: it says that all is there."""
    (folder / MANIFEST).unlink(missing_ok=True)
    for pattern in (f"*{SUFFIX}", f"{DRAFT}*", f"{SPOOLED}*"):
        for file in folder.glob(pattern):
            file.unlink()


def stored_bytes(linear: Linear, scheme: Scheme, bits: int) -> int:
    """Bytes that a linear's cell takes on the disk, at most."""
    # AWQ's scale has an fp16 number for each input; so has a norm that it folds into
    return linear_bytes(linear, scheme, bits, "none") + 2 * linear.in_features


def missing_bytes(
    recipe: Recipe, linears: Iterable[Linear], lacking: Mapping[str, Sequence[str]]
) -> int:
    """Bytes that missing cells of a bank will take at most: equal ones are stored once.

    Args:
        recipe: what the cells are to be.
        linears: all those of the model.
        lacking: names of the missing cells of each, by its name.
    """
    kept = recipe.stored_keys
    return sum(
        stored_bytes(linear, recipe.scheme, int(key.rsplit(".", 1)[1]))
        for linear in linears
        for key in lacking.get(linear.name, ())
        if key in kept
    )


def finalized_bytes(wanted: Assignment, linears: Iterable[Linear]) -> int:
    """Bytes that finalized weights will take at most."""
    return sum(
        stored_bytes(linear, wanted.recipe.scheme, wanted.choices[linear.name].bits)
        for linear in linears
        if linear.name in wanted.keys
    )


def check_bank(folder: Path, needed: int) -> None:
    """Refuse cells of a bank that do not fit on the disk of its folder.

    Raises:
        BankError: says how much is needed, how much there is, and what would fit.
    """
    remedy = (
        "limit it with --methods or --widths, or let XDG_CACHE_HOME name a larger disk"
    )
    _check(folder, needed, "the bank takes {} more", remedy)


def check_finalized(folder: Path, needed: int) -> None:
    """Refuse finalized weights that do not fit on the disk of their folder.

    Raises:
        BankError: says how much is needed, and how much there is.
    """
    remedy = "free some, or let XDG_DATA_HOME name a larger disk"
    _check(folder, needed, "the finalized weights take {}", remedy)


def _check(folder: Path, needed: int, what: str, remedy: str) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BankError(
            f"{what.format(_gb(needed))} and {folder.parent} has {_gb(free)} free: "
            f"{remedy}"
        )


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
