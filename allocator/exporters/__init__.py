"""Recommendations written for something else to read: a file for each format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.errors import UnknownNameError
from allocator.core.plugins import available, load

if TYPE_CHECKING:
    from allocator.core.exporting import Exporter


def formats() -> tuple[str, ...]:
    """Names of the formats: those of their files, with "-", which no module has."""
    return tuple(name.replace("_", "-") for name in available(__name__))


def exporter_of(fmt: str) -> Exporter:
    """The exporter of a format.

    Raises:
        UnknownNameError: there is none; names the formats.
    """
    if fmt not in formats():
        raise UnknownNameError("export format", fmt, formats())
    exporter: Exporter = load(__name__, fmt.replace("-", "_"))
    return exporter
