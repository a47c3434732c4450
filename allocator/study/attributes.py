"""Plain data kept with a study or a trial, however large it is.

MySQL keeps 65,535 bytes in a value: what is larger as JSON is packed, and what is
larger still lies in several attributes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from typing import TYPE_CHECKING, Any

from allocator.core.bounded import LARGEST_UNPACKED, parse_json, unpacked
from allocator.core.errors import StudyError
from allocator.study.outage import tell
from allocator.study.pieces import attribute_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from allocator.study.kept import Kept

    Set = Callable[[str, Any], object]

# characters of a value's JSON
LARGEST = 60_000
PACKED, PARTS = "packed", "packed in parts"
PART = "part:"


def keep(set_attribute: Set, name: str, value: Any) -> tuple[str, ...]:
    """Keep plain data under a name, its parts first: whoever reads finds all or none.

    Args:
        set_attribute: keeps a small value under a name.
        name: where it is asked for again.
        value: plain data.

    Returns:
        Names of its parts, if it has any.

    Raises:
        StudyError: it is more than is read again.
    """
    text = json.dumps(value)
    if len(text) > LARGEST_UNPACKED:
        raise StudyError(
            f"{name!r} takes {len(text):,} characters, and a study keeps at most "
            f"{LARGEST_UNPACKED:,}"
        )
    if len(text) <= LARGEST:
        set_attribute(name, value)
        return ()
    packed = base64.b85encode(zlib.compress(text.encode())).decode()
    if len(packed) <= LARGEST:
        set_attribute(name, {PACKED: packed})
        return ()
    # by content: a part is never that of another value
    stem = f"{PART}{hashlib.sha256(packed.encode()).hexdigest()[:16]}"
    parts = [packed[at : at + LARGEST] for at in range(0, len(packed), LARGEST)]
    names = tuple(f"{stem}:{number}" for number in range(len(parts)))
    for each, part in zip(names, parts, strict=True):
        set_attribute(each, part)
    set_attribute(name, {PARTS: names})
    return names


def kept_under(name: str, found: Mapping[str, Any]) -> Any:
    """What was kept under a name among everything found, or None.

    Raises:
        StudyError: it is damaged, or unpacks to more than is ever kept.
    """
    kept = found.get(name)
    if not (isinstance(kept, dict) and set(kept) <= {PACKED, PARTS} and kept):
        return kept
    try:
        packed = kept.get(PACKED) or "".join(map(found.__getitem__, kept[PARTS]))
        return parse_json(unpacked(base64.b85decode(packed)).decode())
    except (KeyError, TypeError, ValueError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise StudyError(f"what is kept as {name!r} is damaged: {why}") from None


def keep_with(kept: Kept, name: str, value: Any) -> None:
    """Keep plain data with a study, where no dashboard shows it."""
    before: Any = None
    if value is None or len(json.dumps(value)) > LARGEST:
        before = kept.found().get(name)
    values: dict[str, Any] = {}
    names = keep(values.__setitem__, name, value)
    if isinstance(before, dict):
        # storages know no way to remove one
        values |= dict.fromkeys(set(before.get(PARTS, ())) - set(names))
    tell(kept.study, attribute_of(name, values), lambda: kept.write(values))


def kept_in(found: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """Of everything kept with a study, what has names that begin alike."""
    return {
        name: kept_under(name, found)
        for name in found
        if name.startswith(start) and not name.startswith(PART)
    }
