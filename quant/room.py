"""Room for what is made: on disks, in memory, in folders."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from allocator.core.allocation import FULL
from allocator.core.errors import BankError
from allocator.core.memory import free_bytes
from quant.bank import MANIFEST
from quant.cells import SUFFIX
from quant.files import DRAFT, locked
from quant.needs import building, finalized_bytes, missing_bytes
from quant.streaming import SPOOLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Method
    from allocator.core.spec import Linear
    from quant.assignment import Assignment
    from quant.bank import Recipe


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


def check_bank(
    folder: Path,
    recipe: Recipe,
    linears: Sequence[Linear],
    lacking: Mapping[str, Sequence[str]],
    device: str = "cpu",
) -> None:
    """Refuse missing cells of a bank that do not fit on the disk or into memory.

    Args:
        folder: of the bank.
        recipe: what the cells are to be.
        linears: all those of the model.
        lacking: names of the missing cells of each, by its name.
        device: where they are made.

    Raises:
        BankError: says how much is needed, how much there is, and what would fit.
    """
    needs = building(recipe, linears, lacking, device)
    free = shutil.disk_usage(folder).free
    if needs.disk > free:
        less = " or ".join(_smaller(recipe, linears, lacking, free))
        raise BankError(
            f"the bank takes {_gb(needs.disk)} more and {folder.parent} has "
            f"{_gb(free)} free: " + (f"limit it with {less}, or " * bool(less)) + ""
            "let XDG_CACHE_HOME name a larger disk"
        )
    for needed, where in ((needs.host, "cpu"), (needs.device, device)):
        free = free_memory(where)
        if needed > free:
            remedy = "--widths with fewer widths" if where == "cpu" else "--device cpu"
            raise BankError(
                f"making the bank takes up to {_gb(needed)} of memory at a time, and "
                f"{where} has {_gb(free)} free: try {remedy}"
            )


def _smaller(
    recipe: Recipe,
    linears: Sequence[Linear],
    lacking: Mapping[str, Sequence[str]],
    free: int,
) -> list[str]:
    """Options under which what is missing fits into so many bytes."""

    def fits(smaller: Recipe) -> bool:
        return missing_bytes(smaller, linears, lacking) <= free

    wanted = recipe.methods
    methods: dict[str, Method] = {}
    widths: tuple[int, ...] = ()
    # those that take nothing first
    for name in sorted(wanted, key=recipe.stored_methods.__contains__):
        more = {**methods, name: wanted[name]}
        methods = more if fits(replace(recipe, methods=more)) else methods
    for bits in sorted(recipe.widths):
        wider = (*widths, bits)
        widths = wider if fits(replace(recipe, widths=wider)) else widths
    found = []
    if 0 < len(methods) < len(wanted):
        found.append(f"--methods {','.join(methods)}")
    if any(bits != FULL for bits in widths) and len(widths) < len(recipe.widths):
        found.append(f"--widths {','.join(map(str, widths))}")
    return found


def free_memory(device: str) -> int:
    """Bytes of memory that are free: of a device, or of the host for "cpu"."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return free_bytes()


def check_finalized(
    folder: Path, wanted: Assignment, linears: Iterable[Linear]
) -> None:
    """Refuse finalized weights that do not fit on the disk of their folder.

    Args:
        folder: where the weights will be.
        wanted: what they are.
        linears: all those of the model.

    Raises:
        BankError: says how much is needed, and how much there is.
    """
    needed, free = finalized_bytes(wanted, linears), shutil.disk_usage(folder).free
    if needed > free:
        raise BankError(
            f"the finalized weights take {_gb(needed)} and {folder.parent} has "
            f"{_gb(free)} free: free some, or let XDG_DATA_HOME name a larger disk"
        )


def _gb(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
