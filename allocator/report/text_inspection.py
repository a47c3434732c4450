"""Print what a model is made of and what it can be quantized to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.table import Column, Table

from allocator.core.pins import in_words
from allocator.report.console import PlainConsole, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PLACED = (
    "placed by its structure: no family names this architecture, so a small random "
    "model of its configuration was run and watched; what it shows, as a declaration:"
)


def print_inspection(found: Mapping[str, Any]) -> None:
    """Print what `inspect_model` found."""
    console = PlainConsole()
    for kind, prompt in found.get("prompts", {}).items():
        say(console, f"prompt for {kind}: {prompt!r}")
    say(
        console,
        f"{found['model']} ({found['family']}): {found['parameters']:,} parameters, "
        f"{found['quantized_weights']:,} weights in groups",
    )
    for line in (*_placed(found["declaration"]), *_target(found["target"])):
        say(console, line)
    if sentence := _assumption(found["head"]):
        say(console, sentence)
    console.print(_parts(found))
    groups = Table("group", "linears", "weights")
    for group in found["groups"]:
        groups.add_row(
            group["key"], str(len(group["linears"])), f"{group['weights']:,}"
        )
    console.print(groups)
    for sentence in _other_sizes(found["group_sizes"]):
        say(console, sentence)
    left = Table(Column("left at 16 bit", overflow="fold"), "weights", "why")
    for name, weights, reason in _alike(found["left_out"]):
        left.add_row(name, f"{weights:,}", reason)
    other = f"{found['other_parameters']:,}"
    left.add_row("everything else", other, "embeddings, norms, biases: no linear layer")
    console.print(left)
    pins = in_words(found["pins"])
    console.print(_sizes(found, "width everywhere else" if pins else "uniform width"))
    say(
        console,
        f"smallest possible budget: {found['smallest_bpw']:.4f} bpw "
        f"({found['budget_scope']} scope{', ' * bool(pins)}{pins})",
    )


def _alike(left: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, str]]:
    """What stays at 16 bit: name, weights, reason; those of all blocks in one row."""
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in left:
        name = re.sub(r"\.\d+(?=\.|$)", ".*", each["name"])
        rows.setdefault((name, each["reason"]), []).append(each)
    return [
        (
            f"{name} ({len(own)})" if len(own) > 1 else own[0]["name"],
            sum(each["weights"] for each in own),
            reason,
        )
        for (name, reason), own in rows.items()
    ]


def _placed(declaration: str | None) -> list[str]:
    """What a placement by structure has found; nothing where a family declares it."""
    return [] if declaration is None else [PLACED, *declaration.splitlines()]


def _target(target: Mapping[str, Any]) -> list[str]:
    """What the target allows; nothing where there is none."""
    if target["name"] == "none":
        return []
    kinds = {True: "symmetric", False: "asymmetric"}
    noted: dict[str, list[str]] = {}
    for bits, note in target["notes"].items():
        noted.setdefault(note, []).append(bits)
    return [
        f"target {target['name']}: {target['description']}; sizes are of "
        f"{target['layout']}",
        f"widths: {', '.join(map(str, target['widths']))}; group sizes: "
        f"{', '.join(map(str, target['group_sizes']))}; grids: "
        f"{' or '.join(kinds[each] for each in target['symmetric'])}",
        *(f"at {', '.join(widths)} bits: {note}" for note, widths in noted.items()),
        *(
            f"one scheme for {', '.join(names)} of a module"
            for names in target["fused"]
        ),
    ]


def _parts(found: Mapping[str, Any]) -> Table:
    parts = Table("component", "groups", "linears", "weights", "of all parameters")
    for part in found["components"]:
        share = 100 * part["weights"] / found["parameters"]
        parts.add_row(
            part["name"],
            str(part["groups"]),
            str(part["linears"]),
            f"{part['weights']:,}",
            f"{share:.1f} %",
        )
    return parts


def _sizes(found: Mapping[str, Any], width: str) -> Table:
    sizes = Table(width, "bpw (model)", "bpw (quantized)", "bytes")
    for size in found["uniform"]:
        sizes.add_row(
            str(size["bits"]),
            f"{size['bpw']:.3f}",
            f"{size['bpw_quantized']:.3f}",
            f"{size['bytes']:,}",
        )
    return sizes


def _other_sizes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the group size is not the one that was asked for."""
    found = []
    for row in rows:
        size, asked = row["group_size"], row["asked"]
        if size != asked:
            length = row["in_features"]
            has_one = size in ("channel", length)
            found.append(
                f"{len(row['linears'])} linears have rows of {length:,}, which groups "
                f"of {asked} do not divide: "
                f"{'one scale a row' if has_one else f'groups of {size}'}"
            )
    return found


def _assumption(head: Mapping[str, Any] | None) -> str | None:
    """What a configuration alone leaves open, and what was assumed."""
    if not head or not head["assumed"]:
        return None
    kinds = ("one matrix", "two matrices")
    here, there = kinds if head["tied"] else kinds[::-1]
    return (
        f"output head and embeddings: {here}, by config.json alone; the weights "
        f"decide, and {there} would make {head['parameters_otherwise']:,} parameters"
    )
