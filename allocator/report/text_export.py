"""What an export came to, for reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.report.console import PlainConsole

if TYPE_CHECKING:
    from collections.abc import Mapping


def print_export(found: Mapping[str, Any]) -> None:
    """Print where it is, what it stores, and how what was read compares."""
    console = PlainConsole(soft_wrap=True)
    for line in export_lines(found):
        console.print(line)


def export_lines(found: Mapping[str, Any]) -> list[str]:
    """The path; of a checkpoint sizes, the loader, largest differences, seconds."""
    if "bytes" not in found:
        return [found["path"]]
    seconds = found["seconds"]
    sizes = (
        f"{found['bytes']:,} bytes on disk, as claimed: {found['bpw']:.3f} bpw "
        f"({found['bpw_quantized']:.3f} of what is quantized)"
    )
    took = f"written in {seconds['export']:.1f} s, checked in {seconds['check']:.1f} s"
    return [found["path"], sizes, *_compared(found), took]


def _compared(found: Mapping[str, Any]) -> list[str]:
    if "loader" not in found:
        return []
    off = found["weights"]
    same = "equal to the last bit" if off == 0 else f"within {off:.2g} of a step"
    lines = [f"read by {found['loader']}: {found['linears']} linears, weights {same}"]
    if found["logits"] is not None:
        lines[0] += f", logits {_within(found['logits'])}"
    if "measured" in found:
        lines.append(
            f"logits {_within(found['measured'])} of those that were measured, before "
            "scales were folded"
        )
    return lines


def _within(error: float) -> str:
    return f"within {error:.1e} of their range" if error else "equal to the last bit"
