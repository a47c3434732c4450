"""Check a bank against its checksums, and clear away what nobody can use."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

from allocator.core.drafts import DRAFT, is_abandoned
from allocator.core.errors import BankError
from quant.bank import FORMAT, MANIFEST, read_manifest, write_manifest
from quant.cells import (
    LOCK,
    SUFFIX,
    damaged_cells,
    drop_cells,
    file_of,
    has_tensors,
    keep_descriptions,
    stored_cells,
)
from quant.files import locked
from quant.streaming import SPOOLED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path


def linears_of(folder: Path) -> list[str]:
    """Names of the linears that have a file in a bank."""
    return sorted(file.name.removesuffix(SUFFIX) for file in folder.glob(f"*{SUFFIX}"))


def disk_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def verify(
    folder: Path, progress: Callable[[int, int], object] = lambda *_: None
) -> dict[str, Any]:
    """Compare every cell with its checksum, and with the manifest if there is one.

    Of an unfinished bank, which has no manifest, the cells that are there are compared.
    Changes nothing.
    """
    wanted: dict[str, dict[str, str]] = {name: {} for name in linears_of(folder)}
    damaged = []
    finished = (folder / MANIFEST).exists()
    if finished:
        try:
            wanted |= read_manifest(folder)["linears"]
        except BankError:
            damaged.append({"file": str(folder / MANIFEST), "cell": "all"})
    cells = 0
    for at, (name, listed) in enumerate(sorted(wanted.items()), start=1):
        file = file_of(folder, name)
        stored = {key: cell["sum"] for key, cell in stored_cells(file).items()}
        bad = {key for key, sum_ in listed.items() if stored.get(key) != sum_}
        if not stored and not listed and file.exists():
            bad.add("all")
        bad |= set(damaged_cells(file))
        damaged += [{"file": str(file), "cell": key} for key in sorted(bad)]
        cells += len(stored.keys() | listed.keys())
        progress(at, len(wanted))
    return {
        "bank": str(folder),
        "finished": finished,
        "linears": len(wanted),
        "cells": cells,
        "bytes": disk_bytes(folder),
        "damaged": damaged,
    }


def sweep(
    folder: Path,
    versions: Mapping[str, int],
    *,
    alone: Collection[str] = (),
    unused: float | None = None,
    dry_run: bool = False,
) -> list[dict[str, Any]]:
    """Remove a bank, or what is outdated in it; says what and how many bytes.

    Args:
        folder: a bank.
        versions: the methods there are, and the version of each.
        alone: those whose cells are made when asked for, and were stored once.
        unused: seconds without use after which the whole bank goes; None keeps it.
        dry_run: only say what would go.
    """
    if _outlived(folder, unused):
        whole = {"what": str(folder), "bytes": disk_bytes(folder)}
        if not dry_run:
            shutil.rmtree(folder)
        return [whole]
    removed = []
    # a draft that nobody holds was left by a run that died
    with locked(folder / LOCK):
        drafts = [*folder.rglob(f"{DRAFT}*"), *folder.glob(f"{SPOOLED}*")]
        for file in sorted(filter(is_abandoned, drafts)):
            removed.append({"what": str(file), "bytes": file.stat().st_size})
            if not dry_run:
                file.unlink(missing_ok=True)
    for name in linears_of(folder):
        file = file_of(folder, name)
        cells = stored_cells(file)
        old = [key for key in cells if not _is_current(key, versions)]
        removed += _shrink(file, old, drop_cells, dry_run=dry_run)
        kept = [key for key, cell in cells.items() if has_tensors(cell)]
        bare = [key for key in kept if key.split(".")[0] in alone and key not in old]
        removed += _shrink(file, bare, keep_descriptions, dry_run=dry_run)
    if removed and not dry_run and (folder / MANIFEST).exists():
        write_manifest(folder, read_manifest(folder))
    return removed


def _outlived(folder: Path, unused: float | None) -> bool:
    """Whether a bank is in another format, or was not opened for long enough."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        used = folder.stat().st_mtime
    else:
        used = manifest.stat().st_mtime
        try:
            if read_manifest(folder).get("format") != FORMAT:
                return True
        except BankError:
            # the next build writes it again
            return False
    return unused is not None and time.time() - used > unused


def _is_current(key: str, versions: Mapping[str, int]) -> bool:
    """Whether a cell is of a method that there is, in its version."""
    method, version, _ = key.split(".")
    return str(versions.get(method)) == version


def _shrink(
    file: Path,
    keys: Collection[str],
    shrink: Callable[[Path, Collection[str]], object],
    *,
    dry_run: bool,
) -> list[dict[str, Any]]:
    """Take something of some cells out of a file, and say what."""
    if not keys:
        return []
    what = f"{file}: {', '.join(keys)}"
    if dry_run:
        return [{"what": what, "bytes": None}]
    before = file.stat().st_size
    shrink(file, keys)
    after = file.stat().st_size if file.exists() else 0
    return [{"what": what, "bytes": before - after}]
