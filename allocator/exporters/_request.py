"""An export as it is asked for: what is named is looked up, then made and written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from allocator.core.errors import SpecError, UnknownNameError
from allocator.exporters import exporter_of
from allocator.exporters._driver import write_export
from allocator.exporters._making import Wanted
from allocator.exporters._place import check_place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.core.exporting import Exporter
    from allocator.core.watch import Watch
    from allocator.exporters._export import Export

# what a format itself may be asked
ASKED = ("scales",)


class Source(Protocol):
    """What is exported: a function of `allocator.exporters._making`, begun."""

    def __call__(
        self, options: Mapping[str, Any], wanted: Wanted, watch: Watch
    ) -> Export:
        """Make it, with some options of its own."""


def export_from(
    source: Source, fmt: str, out: Path, options: Mapping[str, Any], watch: Watch
) -> dict[str, Any]:
    """Export something.

    Args:
        source: what.
        fmt: name of the format.
        out: the folder to write.
        options: `force`; `scales`, where the format has a choice; the source's own.
        watch: is shown how far it is.

    Returns:
        What `allocator.exporters._driver.write_export` does.

    Raises:
        AllocateError: what cannot be had, written or read again.
    """
    exporter = exporter_of(fmt)
    own = {key: options[key] for key in ASKED if options.get(key) is not None}
    _check_own(exporter, fmt, own)
    force = bool(options.get("force"))
    # before anything is looked up that takes long
    check_place(out, force=force)
    others = {k: v for k, v in options.items() if k not in (*ASKED, "force")}
    export = source(others, Wanted(fmt, str(out), own), watch)
    return write_export(export, exporter, out, fmt=fmt, watch=watch, force=force)


def _check_own(exporter: Exporter, fmt: str, own: Mapping[str, str]) -> None:
    """Refuse what a format cannot be asked."""
    for name, value in own.items():
        if name not in exporter.options:
            raise SpecError(f"format {fmt} has no --{name}: take it out")
        if value not in exporter.options[name]:
            raise UnknownNameError(name, value, exporter.options[name])
