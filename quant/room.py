"""Room for finalized weights: an empty folder, on a disk that can hold them."""

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
    from collections.abc import Sequence
    from pathlib import Path

    from allocator.core.spec import Linear
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


def check_room(folder: Path, wanted: Assignment, linears: Sequence[Linear]) -> None:
    """Refuse what does not fit on the disk.

    Args:
        folder: where the weights will be.
        wanted: what they are.
        linears: all those of the model.

    Raises:
        BankError: says how much is needed and how much there is.
    """
    scheme = wanted.recipe.scheme
    needed = sum(
        # a norm that AWQ's scale folds into has a 16-bit number for each input
        linear_bytes(linear, scheme, wanted.choices[linear.name].bits, "none")
        + 2 * linear.in_features
        for linear in linears
        if linear.name in wanted.keys
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BankError(
            f"the finalized weights take {needed / 1e9:,.1f} GB and {folder.parent} "
            f"has {free / 1e9:,.1f} GB free: free some, or let XDG_DATA_HOME name a "
            "larger disk"
        )
