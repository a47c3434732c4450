"""Checks of what a request names."""

from __future__ import annotations

from allocator.core.allocation import FULL, WIDTHS
from allocator.core.errors import SpecError, UnknownNameError


def check_choosable(widths: tuple[int, ...]) -> None:
    """Refuse widths that leave nothing to choose.

    Raises:
        SpecError: says what is wrong with them.
    """
    bad = [bits for bits in widths if bits not in WIDTHS]
    if bad:
        allowed = ", ".join(map(str, WIDTHS))
        raise SpecError(
            f"width {', '.join(map(str, bad))} is not possible; widths are {allowed}"
        )
    if set(widths) == {FULL}:
        raise SpecError("widths name 16 alone: name one below 16 to choose between")
    if not widths or list(widths) != sorted(set(widths)):
        raise SpecError(f"widths {widths} must be one or more, rising, each once")


def check_among(kind: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that is none of those known.

    Raises:
        UnknownNameError: names these, and the near miss.
    """
    if value not in known:
        raise UnknownNameError(kind, value, known)
