"""A structure written down: Python that a person can check, keep and build on."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allocator.families._structure import Structure

WIDTH = 88
STEP = "    "


def declared(structure: Structure) -> str:
    """The expression that makes an equal structure.

    Its names are those of `_structure`, `_blocks` and `_places`.
    """
    return _written(structure, 0)


def _written(value: Any, depth: int) -> str:
    """One value, over several lines where it is too long for one."""
    opening, parts = _parts(value)
    if not parts:
        return opening
    inner = [f"{name}{_written(each, depth + 1)}" for name, each in parts]
    comma = "," if opening == "(" and len(inner) == 1 else ""
    line = f"{opening}{', '.join(inner)}{comma})"
    if "\n" not in line and len(STEP * depth + line) <= WIDTH:
        return line
    indent = STEP * (depth + 1)
    lines = "".join(f"{indent}{each},\n" for each in inner)
    return f"{opening}\n{lines}{STEP * depth})"


def _parts(value: Any) -> tuple[str, list[tuple[str, Any]]]:
    """How a value begins, and what is in it: by name where defaults are left out."""
    if isinstance(value, tuple):
        return ("(", [("", each) for each in value]) if value else ("()", [])
    if not is_dataclass(value):
        return json.dumps(value) if isinstance(value, str) else repr(value), []
    return f"{type(value).__name__}(", list(_fields(value))


def _fields(value: Any) -> Iterable[tuple[str, Any]]:
    for each in fields(value):
        own = getattr(value, each.name)
        if each.default is MISSING:
            yield "", own
        elif own != each.default:
            yield f"{each.name}=", own
