"""A structure written down as a declaration, which a person can check and keep."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allocator.families._structure import Structure

WIDTH = 88
INDENT = "    "


def declared(structure: Structure) -> str:
    """A structure in the words of the files in `allocator/families/`.

    Python that gives the structure again, given `Structure`, `Row`, `Readers`,
    `Outside` and `Rest`.

    >>> from allocator.families._structure import Structure
    >>> declared(Structure((), ()))
    'Structure(rows=(), reads=())'
    """
    parts = [
        (f"{each.name}=", getattr(structure, each.name))
        for each in fields(structure)
        if getattr(structure, each.name) != each.default
    ]
    line = _flat("Structure", parts)
    return line if len(line) <= WIDTH else _broken("Structure", parts, 0)


def _written(key: str, value: Any, depth: int) -> str:
    """A value in Python, on as few lines as hold it, with a comma behind.

    Args:
        key: what stands in front of it.
        value: nested dataclasses, tuples and plain values.
        depth: by how much its lines are indented.
    """
    line = _flat(key, value)
    if len(INDENT * depth + line) < WIDTH:
        return line
    if is_dataclass(value):
        return _broken(f"{key}{type(value).__name__}", _given(value), depth)
    if isinstance(value, tuple):
        return _broken(key, [("", each) for each in value], depth)
    start = INDENT * depth
    # the quotes, a space and a comma
    pieces = wrap(str(value), WIDTH - len(start) - 4, break_long_words=False)
    spaced = [f"{piece} " for piece in pieces[:-1]] + pieces[-1:]
    return key + f"\n{start}".join(map(_plain, spaced))


def _broken(name: str, parts: list[tuple[str, Any]], depth: int) -> str:
    """What stands in brackets on a line of its own if it fits, else on a line each."""
    start = INDENT * (depth + 1)
    line = start + ", ".join(_flat(key, value) for key, value in parts)
    # one value in brackets is no tuple without a comma
    if (
        len(parts) > 1
        and len(line) <= WIDTH
        and not any(isinstance(x, tuple) for _, x in parts)
    ):
        return f"{name}(\n{line}\n{INDENT * depth})"
    lines = [f"{start}{_written(key, each, depth + 1)},\n" for key, each in parts]
    return f"{name}(\n{''.join(lines)}{INDENT * depth})"


def _flat(key: str, value: Any) -> str:
    """A value in Python, on one line; a list is what stands in brackets."""
    if is_dataclass(value):
        return _flat(f"{key}{type(value).__name__}", _given(value))
    if isinstance(value, tuple):
        inner = ", ".join(_flat("", each) for each in value)
        return f"{key}({inner}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"{key}({', '.join(_flat(name, each) for name, each in value)})"
    return f"{key}{_plain(value)}"


def _given(value: Any) -> list[tuple[str, Any]]:
    """What a dataclass is given, by position as far as nothing is left out."""
    found = []
    named = False
    for each in fields(value):
        own = getattr(value, each.name)
        if own == each.default:
            named = True
        else:
            found.append((f"{each.name}=" if named else "", own))
    return found


def _plain(value: Any) -> str:
    if not isinstance(value, str) or '"' in value:
        return repr(value)
    return f'r"{value}"' if "\\" in value else f'"{value}"'
