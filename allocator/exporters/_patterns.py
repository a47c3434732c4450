r"""Regular expressions for linears, which two programs know by different names.

The `model.language_model.layers.0.mlp.up_proj` of transformers 5 is vLLM's
`language_model.model.layers.0.mlp.up_proj`. Both hold the names of the part and of what
lies in it, so `.*language_model.*layers\.0\.mlp\.up_proj$` finds either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# marks a regular expression (compressed-tensors, vLLM), matched from the beginning
REGEX = "re:"
TOP = "model."


@dataclass(frozen=True, order=True)
class _Place:
    """Where a module is: `root`, in it the row of blocks `row`, in a block `inner`.

    Without blocks `row` is empty, and `inner` all that is below the root.
    """

    root: str
    row: str
    inner: str


def patterns(wanted: Collection[str], names: Collection[str]) -> list[str]:
    """Targets that match some modules of a model, and no others of it.

    Blocks and linears within them are alternatives of one expression where that is all
    they differ in. Where an expression would match more, names stand for themselves.

    Args:
        wanted: full names in transformers.
        names: full names of all its modules.
    """
    found = []
    for pattern, meant in _merged(wanted, names):
        matched = {name for name in names if re.match(pattern, name)}
        found += [f"{REGEX}{pattern}"] if matched == meant else sorted(meant)
    return found


def matches(target: str, name: str) -> bool:
    """Whether a target means a module, as compressed-tensors has it (`match_name`)."""
    if target.startswith(REGEX):
        return re.match(target.removeprefix(REGEX), name) is not None
    return target == name


def _merged(
    wanted: Collection[str], names: Collection[str]
) -> list[tuple[str, set[str]]]:
    """Expressions, each with the names that it is for."""
    everywhere = _by_place(names)
    alike: dict[tuple[str, str, tuple[int, ...] | None], list[_Place]] = {}
    here = _by_place(wanted)
    for place, blocks in sorted(here.items()):
        own = None if blocks == everywhere[place] else tuple(sorted(blocks))
        alike.setdefault((place.root, place.row, own), []).append(place)
    found = []
    for (root, row, own), places in alike.items():
        inner = _one_of(re.escape(place.inner) for place in places)
        below = inner
        if row:
            number = r"\d+" if own is None else _one_of(map(str, own))
            below = rf"{re.escape(row)}\.{number}" + (rf"\.{inner}" if inner else "")
        meant = {name for place in places for name in here[place].values()}
        found.append(
            (f".*{re.escape(root)}" + (f".*{below}" if below else "") + "$", meant)
        )
    return found


def _by_place(names: Iterable[str]) -> dict[_Place, dict[int, str]]:
    """Names by place, then by number of their block (-1: it is in none)."""
    found: dict[_Place, dict[int, str]] = {}
    for name in names:
        root, *below = name.removeprefix(TOP).split(".")
        at = next((n for n, part in enumerate(below) if n and part.isdigit()), None)
        if at is None:
            place, block = _Place(root, "", ".".join(below)), -1
        else:
            row, inner = ".".join(below[:at]), ".".join(below[at + 1 :])
            place, block = _Place(root, row, inner), int(below[at])
        found.setdefault(place, {})[block] = name
    return found


def _one_of(parts: Iterable[str]) -> str:
    several = list(parts)
    return several[0] if len(several) == 1 else f"({'|'.join(several)})"
