"""What was worked out of a study, kept with it by a digest of what it rests on."""

from __future__ import annotations

import base64
import json
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from allocator.core.errors import StudyError

if TYPE_CHECKING:
    from allocator.study.journal import Journal

EXPLAINED = "explained:"
# characters of one attribute: MySQL keeps 65,535 bytes
MOST = 60_000


def recalled(journal: Journal, what: str, rests_on: str) -> Any:
    """What was kept under a name, if it rests on the same; else None."""
    first = journal.attribute(f"{EXPLAINED}{what}:0") or {}
    pieces = [
        journal.attribute(f"{EXPLAINED}{what}:{at}") or {}
        for at in range(first.get("of", 0))
    ]
    # another process may be writing
    if not pieces or any(each.get("rests_on") != rests_on for each in pieces):
        return None
    packed = "".join(each["text"] for each in pieces)
    return json.loads(zlib.decompress(base64.b85decode(packed)))


def keep(journal: Journal, what: str, rests_on: str, found: Any) -> None:
    """Keep plain data under a name, in place of what was there.

    A storage that cannot be written to, or is locked, keeps nothing: it can be worked
    out again.
    """
    packed = base64.b85encode(zlib.compress(json.dumps(found).encode())).decode()
    pieces = [packed[at : at + MOST] for at in range(0, len(packed), MOST)]
    about = {"rests_on": rests_on, "of": len(pieces)}
    with suppress(StudyError):
        for at, text in enumerate(pieces):
            name = f"{EXPLAINED}{what}:{at}"
            journal.set_attribute(name, {**about, "text": text})
