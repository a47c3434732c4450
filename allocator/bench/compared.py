"""What a study measures, part by part, in words: to tell two that differ apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.allocation import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.study import StudySpec

# characters of a digest that people compare
SHOWN = 8


def in_words(
    asked: StudySpec, parts: Mapping[str, Any]
) -> dict[str, str | tuple[str, str]]:
    """Words for the parts of an identity, and what is compared where words may agree.

    Args:
        asked: the request.
        parts: as `Setup.identity` is the digest of them.
    """
    cells = parts["cells"]
    group_size, symmetric, scales = cells["scheme"]
    methods = ", ".join(f"{name} (version {v})" for name, v in cells["methods"])
    sets = parts["samples"]
    counts = ", ".join(f"{len(sets[split])} for {split}" for split in sets)
    beams, rerank = parts["decoding"]
    longest = parts.get("max_new_tokens")
    return {
        "model": _with_digest(asked.model, parts["weights"]),
        "task": "{} (version {})".format(*parts["task"]),
        "samples": _with_digest(counts, digest(sets)),
        "bank format": str(cells["format"]),
        "scheme": f"groups of {group_size}, {'' if symmetric else 'a'}symmetric, "
        f"scales in {scales}",
        "methods": methods,
        "computing on": " in ".join(parts["arithmetic"].split("/", 1)),
        "widths": ", ".join(map(str, parts["widths"])),
        "granularity": parts["granularity"],
        "included": " and ".join(parts["include"]) or "nothing more",
        "beams": str(beams),
        "re-ranked": str(rerank),
        "longest reply": "the task's own" if longest is None else f"{longest} tokens",
        "seed": str(parts["seed"]),
        "target": parts.get("target", "none"),
    }


def _with_digest(words: str, found: str) -> tuple[str, str]:
    """Words with a digest behind them, and the digest, which is compared."""
    return f"{words} (digest {found[:SHOWN]})", found
