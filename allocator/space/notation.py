"""Numbers as people and spreadsheets write them: decimal commas, thousands, percent."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

# a thousand apart: 1 234, 1'234
APART = re.compile(r"(?<=\d)[ \u00a0\u2009\u202f'\u2019](?=\d{3}(?!\d))")
# 1,234 is 1.234 to some and 1234 to others, and so is 1.234
EITHER = re.compile(r"[+-]?[1-9]\d{0,2}[,.]\d{3}")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
COMMA = re.compile(r"[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+)?,\d+([eE][+-]?\d+)?")
POINT = re.compile(r"[+-]?(\d*|[1-9]\d{0,2}(,\d{3})+)\.\d+([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Notation:
    """How the numbers of a file are written.

    `commas` says what a comma before three digits is: a decimal comma, a sign between
    thousands, or, where the file does not tell, nothing that can be read. `points` is
    False where a point before three digits cannot be read, as decimals have commas.
    """

    commas: Literal["decimal", "thousands", "unknown"] = "unknown"
    points: bool = True

    @staticmethod
    def of(cells: Iterable[str], delimiter: str) -> Notation:
        """What cells show; a file parted by semicolons has decimal commas otherwise.

        >>> Notation.of(["4", "2,5"], ",")
        Notation(commas='decimal', points=False)
        """
        parted = [cell.strip() for cell in cells if "," in cell or "." in cell]
        clear = [cell for cell in parted if not EITHER.fullmatch(cell)]
        comma = any(COMMA.fullmatch(cell) for cell in clear)
        point = any(POINT.fullmatch(cell) for cell in clear)
        if comma != point:
            return Notation("decimal", False) if comma else Notation("thousands")
        pointed = any("." in cell for cell in parted if EITHER.fullmatch(cell))
        semicolons = delimiter == ";" and not (comma or pointed)
        return Notation("decimal" if semicolons else "unknown")

    def number(self, cell: str) -> float:
        """A finite number, or NaN.

        >>> Notation("thousands").number("1,234"), Notation("decimal").number("1,234")
        (1234.0, 1.234)
        """
        text = cell.strip().replace("\N{MINUS SIGN}", "-")
        if self.unclear(text):
            return math.nan
        try:
            value = float(text)
        except ValueError:
            value = self._spelled(APART.sub("", text))
        return value if math.isfinite(value) else math.nan

    def _spelled(self, text: str) -> float:
        """A number that Python would write otherwise, or NaN."""
        decimal = EITHER.fullmatch(text) and self.commas == "decimal"
        if THOUSANDS.fullmatch(text) and not decimal:
            text = text.replace(",", "")
        elif COMMA.fullmatch(text):
            text = text.replace(".", "").replace(",", ".")
        try:
            return float(text)
        except ValueError:
            return math.nan

    def unclear(self, cell: str) -> bool:
        """Whether a cell is one number to some and another to others."""
        if not EITHER.fullmatch(cell.strip()):
            return False
        return not self.points if "." in cell else self.commas == "unknown"

    def not_a(self, kind: str, cell: str) -> str:
        """Why a cell is refused that holds no number of a kind.

        >>> Notation().not_a("width", "x")
        "'x' is not a width"
        """
        if self.unclear(cell):
            return f"{cell!r} may be a decimal or thousands: write it without either"
        return f"{cell!r} is not a {kind}"


# of a file of which nothing else is known
PLAIN = Notation()


def percent(cell: str) -> tuple[str, bool]:
    """A cell without its percent sign, and whether it had one.

    >>> percent("83.5 %")
    ('83.5 ', True)
    """
    text = cell.strip()
    return text.removesuffix("%"), text.endswith("%")
