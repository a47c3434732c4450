"""EvoPress: `layer: bits` a line.

As `evo_quant_search.py` of IST-DASLab/EvoPress writes its final configuration:
`layer[,layer...]: level`, where a level is the name of a file of weights, and that the
bits they were rounded to. The weights themselves come from GPTQ there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.bench.imported._said import Pattern, Rule, Said, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.bench.imported._said import Reader


class EvoPress:
    """Reads a width for each name, as lines or as JSON."""

    description = "EvoPress's configuration (`layer: bits` a line)"

    def knows(self, data: Mapping[str, Any]) -> bool:
        """Whether there is nothing but numbers."""
        return bool(data) and all(
            isinstance(bits, int | float) and not isinstance(bits, bool)
            for bits in data.values()
        )

    def said(self, data: Mapping[str, Any]) -> Said:
        """A rule for each name."""
        rules = [
            Rule(Pattern("name", name), Wanted(bits, method="gptq"))
            for name, bits in data.items()
        ]
        return Said("EvoPress", tuple(rules), ordered=False)


PLUGIN: Reader = EvoPress()
