"""What makes the measurements of a study comparable, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class Identity(str):
    """The digest of what makes measurements comparable, and its parts in words.

    A part has words for people and, where words alone do not tell, what is compared.
    """

    parts: dict[str, list[str]]

    @staticmethod
    def of(digest: str, parts: Mapping[str, str | tuple[str, str]]) -> Identity:
        """A digest, and parts by name: words, or words and what is compared."""
        made = Identity(digest)
        made.parts = {
            name: [part, part] if isinstance(part, str) else list(part)
            for name, part in parts.items()
        }
        return made


def parts_of(identity: str) -> dict[str, list[str]]:
    """The parts of an identity; none where only the digest is known."""
    return identity.parts if isinstance(identity, Identity) else {}


def difference(theirs: Any, ours: Mapping[str, list[str]]) -> str:
    """What differs between two identities, in words; "" where nobody can say.

    >>> difference({"seed": ["0", "0"]}, {"seed": ["1", "1"]})
    'seed 0, not 1'
    """
    told = theirs if isinstance(theirs, dict) else {}
    return "; ".join(
        f"{name} {told[name][0]}, not {words}"
        for name, (words, compared) in ours.items()
        if name in told and told[name][1] != compared
    )
