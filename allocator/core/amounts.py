"""Large numbers, and many of them, in a few characters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allocator.core.allocation import UNITS
from allocator.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# the short scale that papers use
SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(count: float) -> str:
    """A count with its scale.

    >>> short(2_700_000_000), short(1234), short(56)
    ('2.7 G', '1.23 k', '56')
    """
    for size, name in SCALES:
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count:.0f}"


def in_bytes(count: float) -> str:
    """Bytes with their unit, in powers of a thousand.

    >>> in_bytes(74e9), in_bytes(2.5e8), in_bytes(0)
    ('74 GB', '250 MB', '0 B')
    """
    return f"{short(count)}B" if count >= 1000 else f"{count:.0f} B"


def read_bytes(text: str) -> int:
    """Bytes in a size such as 2GiB.

    Raises:
        SpecError: anything else.
    """
    form = r"\s{0,9}(\d{1,15}(?:\.\d{0,15})?)\s{0,9}([kmg]?i?b)\s{0,9}"
    found = re.fullmatch(form, text, re.IGNORECASE)
    if not found or found[2].lower() not in UNITS:
        raise SpecError(f"{text!r} is not a size of memory such as 256MiB or 2GiB")
    return int(float(found[1]) * UNITS[found[2].lower()])


def duration(seconds: float) -> str:
    """A time as people say it.

    >>> duration(42), duration(754), duration(9 * 3600)
    ('42 s', '13 min', '9 h 0 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def ranges(numbers: Sequence[int]) -> str:
    """Rising numbers in few words.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0 to 2, 5, 7 to 8'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]} to {r[-1]}" if r[1:] else f"{r[0]}" for r in runs)


def fed_in_words(found: Mapping[str, int] | None) -> str:
    """How far calibration fed the experts of a bank; "" where all saw enough.

    Args:
        found: `quant.pooling.Feeding` as plain data; None: there are no experts.

    >>> fed_in_words({"experts": 256, "mixed": 9, "unseen": 0, "needed": 800})
    '9 of 256 experts saw few tokens and borrow from others; 800 samples feed all'
    """
    if not found or not found["mixed"]:
        return ""
    unseen, needed = found["unseen"], f"{found['needed']:,} samples"
    return (
        f"{found['mixed']:,} of {found['experts']:,} experts saw few tokens"
        + (f" ({unseen:,} of them none)" if unseen else "")
        + " and borrow from others; "
        + (f"more than {needed} would feed all" if unseen else f"{needed} feed all")
    )
