"""What a search would do and take, as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from allocator.core.amounts import duration, short
from allocator.report.console import PlainConsole, say

if TYPE_CHECKING:
    from allocator.core.forecast import Part
    from allocator.search.outlook import Outlook


def print_outlook(found: Outlook) -> None:
    """Print counts and seconds part by part, then what they come to."""
    table = Table(title="what it would do, and take here")
    table.add_column("part", no_wrap=True)
    columns = ("scored", "looked at", "swaps", "exchanged", "quantized", "time")
    for name in columns:
        table.add_column(name, justify="right")
    seconds = dict(found.seconds)
    for part in found.forecast.parts:
        # a name may stand for several parts, whose seconds are added up
        table.add_row(*_row(part, seconds.pop(part.name, None)))
    table.add_section()
    table.add_row(*_row(found.forecast.total, found.total))
    console = PlainConsole()
    console.print(table)
    for sentence in found.sentences:
        say(console, sentence)
    assumed = [
        name
        for name, unit in found.measured.units.named().items()
        if not unit.measured and unit.seconds
    ]
    say(
        console,
        f"Measured here in {found.measured.seconds:.0f} s; assumed: "
        f"{', '.join(assumed) or 'nothing'}.",
    )


def _row(part: Part, seconds: float | None) -> list[str]:
    quantized = sum(part.solved.values()) + part.finalized + part.tuned
    counts = part.scored, part.looked, part.swaps
    return [
        part.name,
        *(f"{count:,.0f}" if count else "" for count in counts),
        *(short(count) if count else "" for count in (part.swapped, quantized)),
        "" if seconds is None else duration(seconds),
    ]
