"""Exceptions of an allocation, single linears that differ from their groups, in words.

They are read as plain data, `{full name: {"bits": 4, "method": "gptq"}}`, as studies,
plans and results keep them; what was kept before there were any has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    Layers = Mapping[str, Mapping[str, Any]]

# linears that a sentence names
NAMED = 3


def exceptions_said(layers: Layers | None) -> list[str]:
    """How many linears differ from their groups, and the first of them; or nothing.

    >>> exceptions_said({"a.q_proj": {"bits": 8, "method": "gptq"}})
    ['1 single linear differs from its group: a.q_proj 8 gptq.']
    """
    if not layers:
        return []
    count = len(layers)
    subject = "single linears differ from their groups"
    if count == 1:
        subject = "single linear differs from its group"
    return [f"{count:,} {subject}: {in_short(layers)}."]


def in_short(layers: Layers) -> str:
    """The first of some linears with their choices, and how many more there are."""
    told = [f"{name} {_choice(layers[name])}" for name in list(layers)[:NAMED]]
    more = len(layers) - NAMED
    return ", ".join(told) + (f" and {more:,} more" if more > 0 else "")


def by_group(plan: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """A plan's exceptions by the group that each is in."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, layer in plan.get("layers", {}).items():
        if layer.get("exception") and "group" in layer:
            own = {"bits": layer["bits"], "method": layer["method"]}
            found.setdefault(layer["group"], {})[name] = own
    return found


def _choice(choice: Mapping[str, Any]) -> str:
    method = choice["method"]
    return f"{choice['bits']}" if method is None else f"{choice['bits']} {method}"
