"""What the bank commands found, for reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from allocator.core.amounts import fed_in_words
from allocator.report.console import PlainConsole

if TYPE_CHECKING:
    from collections.abc import Mapping


def print_build(found: Mapping[str, Any]) -> None:
    """Print what a build came to."""
    console = PlainConsole(soft_wrap=True)
    fallbacks = sum(len(own) for own in found["fallbacks"].values())
    console.print(
        f"{found['cells']:,} cells of {found['linears']} linears: {found['made']:,} "
        f"made now in {found['seconds']:.0f} s"
        + (f", {found['damaged']} of them were damaged" * bool(found["damaged"]))
        + (f"; {fallbacks} are plain rounding, which was better" * bool(fallbacks)),
    )
    if told := fed_in_words(found["experts"]):
        console.print(told)
    console.print(f"{found['bytes'] / 1e9:,.3f} GB in {found['bank']}")


def print_verification(found: Mapping[str, Any]) -> None:
    """Print the banks there are, and every damaged cell of them and of others."""
    finalized = found.get("finalized", [])
    if not found["banks"] and not finalized:
        PlainConsole().print("no banks yet: allocate bank build --task vqav2")
        return
    table = Table("bank", "linears", "cells", "GB", "damaged", "state")
    for bank in found["banks"]:
        table.add_row(
            bank["bank"].rsplit("/", maxsplit=1)[-1],
            f"{bank['linears']:,}",
            f"{bank['cells']:,}",
            f"{bank['bytes'] / 1e9:,.3f}",
            f"{len(bank['damaged']):,}",
            "finished" if bank["finished"] else "unfinished",
        )
    console = PlainConsole(soft_wrap=True)
    if found["banks"]:
        console.print(table)
    if finalized:
        cells = sum(each["cells"] for each in finalized)
        console.print(f"finalized allocations: {len(finalized)} of {cells:,} cells")
    for own in (*found["banks"], *finalized):
        for each in own["damaged"]:
            console.print(f"damaged: {each['file']} {each['cell']}")


def print_garbage(found: Mapping[str, Any]) -> None:
    """Print what was removed, or would be."""
    console = PlainConsole(soft_wrap=True)
    verb = "would remove" if found["dry_run"] else "removed"
    for each in found["removed"]:
        size = "" if each["bytes"] is None else f" ({each['bytes'] / 1e6:,.2f} MB)"
        console.print(f"{verb} {each['what']}{size}")
    if not found["removed"]:
        console.print("nothing to remove")
