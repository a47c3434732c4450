"""One file per plug-in: families."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.core.errors import ModelError
from allocator.core.plugins import available, load
from allocator.families._checkpoint import check_weights, read_config

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family


def family_of(folder: Path) -> Family:
    """The family that handles a checkpoint, its files looked at but not loaded.

    Raises:
        ModelError: no model folder, damaged weights, or a kind no family handles.
    """
    kind = read_config(folder)["model_type"]
    known: dict[str, Family] = {}
    for name in available(__name__):
        family: Family = load(__name__, name)
        known.update(dict.fromkeys(family.model_types, family))
    if kind not in known:
        raise ModelError(
            f"{folder} is a {kind!r} model; supported are {', '.join(sorted(known))}"
        )
    check_weights(folder)
    return known[kind]
