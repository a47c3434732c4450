"""Banks as a whole: make one, check all, clean up."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from allocator.bench.finalize import finalized_home
from allocator.bench.loading import bank_home, build, fed_of, recipe_of, tell_needs
from allocator.bench.prepare import prepare
from allocator.bench.references import referred
from allocator.core.plugins import available, load
from allocator.core.ports import is_stored

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.study import StudySpec
    from allocator.core.watch import Watch


def build_bank_of(asked: StudySpec, watch: Watch) -> dict[str, Any]:
    """Make every cell that a bank lacks, and what came of it as plain data.

    Cells that are there are compared with their checksums; damaged ones are made again.

    Raises:
        AllocateError: what `prepare` refuses; a disk with too little room.
    """
    from quant.bank import drop_damaged, read_manifest
    from quant.upkeep import disk_bytes

    started = time.monotonic()
    setup = referred(prepare(asked, ("calibration",), watch), watch)
    recipe, linears = recipe_of(setup), setup.model.linears
    folder = bank_home() / recipe.digest
    folder.mkdir(parents=True, exist_ok=True)
    damaged = 0
    with watch.phase("check") as progress:
        for at, linear in enumerate(linears, start=1):
            damaged += drop_damaged(folder, [linear.name])
            progress(at, len(linears))
    needed = tell_needs(setup, recipe, watch)
    made = build(setup, recipe, watch)
    fallbacks = read_manifest(folder)["fallbacks"]
    return {
        "bank": str(folder),
        "model": asked.model,
        "linears": len(linears),
        "cells": len(linears) * len(recipe.keys),
        "made": made,
        "damaged": damaged,
        "fallbacks": {
            name: {key: own[key] for key in recipe.keys if key in own}
            for name, own in fallbacks.items()
            if own.keys() & set(recipe.keys)
        },
        "experts": fed_of(folder),
        "announced_bytes": needed.disk,
        "bytes": disk_bytes(folder),
        "seconds": time.monotonic() - started,
    }


def bank_folders() -> list[Path]:
    """Folders of all banks on this machine."""
    home = bank_home()
    return sorted(f for f in home.iterdir() if f.is_dir()) if home.is_dir() else []


def verify_banks(watch: Watch) -> dict[str, Any]:
    """Compare every cell with its checksum; changes nothing.

    Those of every bank, and of all finalized weights that are whole as far as files
    tell.
    """
    from quant.bank import MANIFEST
    from quant.finalized import verify_finalized
    from quant.upkeep import verify

    banks, finalized = [], []
    for folder in bank_folders():
        with watch.phase(folder.name[:12]) as progress:
            banks.append(verify(folder, progress))
    made = sorted(file.parent for file in finalized_home().glob(f"*/{MANIFEST}"))
    with watch.phase("finalized") as progress:
        for at, folder in enumerate(made, start=1):
            finalized.append(verify_finalized(folder))
            progress(at, len(made))
    every = [*banks, *finalized]
    return {
        "banks": banks,
        "finalized": finalized,
        "cells": sum(each["cells"] for each in every),
        "damaged": sum(len(each["damaged"]) for each in every),
    }


def collect_garbage(
    unused: float | None = None, *, dry_run: bool = False
) -> dict[str, Any]:
    """Remove what no run can use, and say what that was.

    Drafts of killed runs, cells of methods that are gone or have changed, banks in
    another format; and, if asked, banks that no run has opened for a time.

    Args:
        unused: seconds without use after which a whole bank goes; None keeps all.
        dry_run: only say what would go.
    """
    from quant.upkeep import sweep

    methods = available("quant.methods")
    found = {name: load("quant.methods", name) for name in methods}
    versions = {name: method.version for name, method in found.items()}
    alone = [name for name, method in found.items() if not is_stored(method)]
    removed = [
        each
        for folder in bank_folders()
        for each in sweep(folder, versions, alone=alone, unused=unused, dry_run=dry_run)
    ]
    return {"removed": removed, "dry_run": dry_run}
