"""Two explanations side by side: do the same parts matter?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allocator.explain.evidence import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping

    Explained = Mapping[str, Any]

# shared names before a rank correlation says anything
FEWEST = 3


def compare(first: Explained, second: Explained) -> dict[str, Any]:
    """Importance of two studies or tables, level by level.

    For every level that both have, `rows` holds each name with both shares in percent
    and their difference (second less first); `apart` where the 95 % intervals do not
    overlap; None for a name that one of them lacks. `overlap` is the percentage that
    both give to the same names (100 less half the summed absolute differences),
    `spearman` the rank correlation over the names that both have, None for fewer than
    three.
    """
    levels = {
        level: _level(first["importance"][level], second["importance"][level])
        for level in LEVELS
        if first["importance"][level] and second["importance"][level]
    }
    return {
        "compared": [dict(first), dict(second)],
        "levels": levels,
        "sentences": [_sentence(level, found) for level, found in levels.items()],
    }


def _level(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    from surrogate.importance import spearman

    names = list(dict.fromkeys([*first, *second]))
    shared = [name for name in names if name in first and name in second]
    own, other = (
        np.array([shares[name]["consensus"] for name in shared])
        for shares in (first, second)
    )
    lacking = sum(
        share["consensus"]
        for shares in (first, second)
        for name, share in shares.items()
        if name not in shared
    )
    return {
        "rows": [_row(name, first.get(name), second.get(name)) for name in names],
        "spearman": spearman(own, other) if len(shared) >= FEWEST else None,
        "overlap": float(100 - (np.abs(own - other).sum() + lacking) / 2),
    }


def _row(
    name: str, first: Mapping[str, Any] | None, second: Mapping[str, Any] | None
) -> dict[str, Any]:
    difference = apart = None
    if first is not None and second is not None:
        difference = second["consensus"] - first["consensus"]
        (low, high), (other_low, other_high) = first["ci95"], second["ci95"]
        apart = other_low > high or low > other_high
    return {
        "name": name,
        "first": first and {k: first[k] for k in ("consensus", "ci95")},
        "second": second and {k: second[k] for k in ("consensus", "ci95")},
        "difference": difference,
        "apart": apart,
    }


def _sentence(level: str, found: Mapping[str, Any]) -> str:
    """Whether the two agree, in words."""
    words = level.replace("_", " ")
    if all(row["difference"] is None for row in found["rows"]):
        return f"By {words}, they have no name in common."
    apart = [row["name"] for row in found["rows"] if row["apart"]]
    said = f"By {words}, they give {found['overlap']:.0f} % of the importance alike"
    if found["spearman"] is not None:
        said += f" (rank correlation {found['spearman']:.2f})"
    if not apart:
        return f"{said}; no difference is beyond the intervals."
    return f"{said}; beyond the intervals they differ on {', '.join(apart)}."
