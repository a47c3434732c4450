"""Regular expressions of other people's files, as far as they are soon decided.

Python tries all ways to match. Where repeats lie within repeats, or follow each other
without anything between them, there may be more ways than anybody waits for.
"""

from __future__ import annotations

import re
import warnings
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# characters of an expression, and repeats without an end in it
LONGEST, MOST = 10_000, 8
# Python's own reader of expressions, which has no public name
_sre: Any = import_module("re._parser")
SINGLE = ("LITERAL", "NOT_LITERAL", "IN", "ANY")
REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")


def expression(text: str) -> re.Pattern[str]:
    """A regular expression, compiled.

    Raises:
        SpecError: it is none, or one that may take forever.
    """
    shown = f"has {text!r:.200}, which is"
    if len(text) > LONGEST:
        raise SpecError(f"{shown} longer than {LONGEST:,} characters")
    try:
        with warnings.catch_warnings():
            # of what a later Python may read otherwise
            warnings.simplefilter("ignore")
            compiled, parsed = re.compile(text), list(_sre.parse(text))
    except (OverflowError, RecursionError, re.error) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise SpecError(f"{shown} no regular expression: {why}") from None
    if _branches(parsed):
        raise SpecError(
            f"{shown} an expression with a repeat or a choice within a repeat: it may "
            "take forever to match; write it without"
        )
    if _unparted(parsed) > 1 or sum(map(_endless, _flat(parsed))) > MOST:
        raise SpecError(
            f"{shown} an expression with repeats that nothing parts, or more than "
            f"{MOST} of them: it may take forever to match; write it without"
        )
    return compiled


def _name(item: Any) -> str:
    return str(item[0])


def _within(item: Any) -> Iterator[list[Any]]:
    """The sequences within an item of an expression."""
    stack = [item[1]]
    while stack:
        part = stack.pop()
        if isinstance(part, _sre.SubPattern):
            yield list(part)
        elif isinstance(part, tuple | list):
            stack += reversed(part)


def _flat(items: Iterable[Any]) -> Iterator[Any]:
    """All items, those within groups in their place."""
    for item in items:
        yield item
        for inner in _within(item):
            yield from _flat(inner)


def _varies(item: Any) -> bool:
    return _name(item) in REPEATS and item[1][0] != item[1][1]


def _endless(item: Any) -> bool:
    return _varies(item) and int(item[1][1]) > MOST


def _branches(parsed: list[Any]) -> bool:
    """Whether what is repeated may itself match in several ways."""
    return any(
        _name(item) in REPEATS
        and int(item[1][1]) > 1
        and any(
            _varies(each) or _name(each) == "BRANCH"
            for inner in _within(item)
            for each in _flat(inner)
        )
        for item in _flat(parsed)
    )


def _unparted(parsed: list[Any]) -> int:
    """How many endless repeats follow another with nothing that has to be between."""
    solid = [_endless(item) for item in _solid(parsed)]
    return sum(a and b for a, b in pairwise(solid))


def _solid(parsed: list[Any]) -> Iterator[Any]:
    """Endless repeats and single characters, as far as the latter have to be there."""
    for item in parsed:
        if _endless(item) or _name(item) in SINGLE:
            yield item
        elif _name(item) == "BRANCH":
            # whichever is taken, it may be one without a character
            yield from (
                x for inner in _within(item) for x in _flat(inner) if _endless(x)
            )
        elif not (_varies(item) and item[1][0] == 0):
            for inner in _within(item):
                yield from _solid(inner)
