"""Colours of reports, for paper and for dark screens; told apart by the colour-blind.

Blue, orange and green are those of Okabe and Ito, lighter on dark; widths run from
pale to deep, so that more bits stand out from either background.
"""

from __future__ import annotations

from typing import Final

LIGHT: Final = {
    "page": "#f6f7f9",
    "card": "#ffffff",
    "ink": "#1a2027",
    "soft": "#566270",
    "line": "#dde2e8",
    "dot": "#8a97a6",
    "front": "#0068a8",
    "best": "#d1500a",
    "uniform": "#007f5f",
    "budget": "#9a4f86",
    "down": "#d1500a",
    "up": "#0068a8",
    "good": "#0068a8",
    "fair": "#7fb2d6",
    "weak": "#cfd6de",
    "width0": "#eef4fa",
    "width1": "#9cc5e4",
    "width2": "#3f8bc4",
    "width3": "#0b3a66",
}
DARK: Final = {
    "page": "#0f1318",
    "card": "#171c23",
    "ink": "#e8ecf1",
    "soft": "#a4b0be",
    "line": "#323b46",
    "dot": "#77859a",
    "front": "#58b0ee",
    "best": "#ff9a52",
    "uniform": "#35c79c",
    "budget": "#d893c4",
    "down": "#ff9a52",
    "up": "#58b0ee",
    "good": "#58b0ee",
    "fair": "#3c6f96",
    "weak": "#3a444f",
    "width0": "#1d2731",
    "width1": "#25557c",
    "width2": "#4496d6",
    "width3": "#cfe8fb",
}
# the place of every width between the palest and the deepest
PLACES: Final = {2: 0.0, 3: 0.2, 4: 0.4, 5: 0.55, 6: 0.7, 8: 0.85, 16: 1.0}


def place(bits: float) -> float:
    """Where a width stands between the palest and the deepest colour.

    >>> place(4), place(1), place(32), place(2.5)
    (0.4, 0.0, 1.0, 0.1)
    """
    bits = min(max(bits, min(PLACES)), max(PLACES))
    below = max(width for width in PLACES if width <= bits)
    above = min(width for width in PLACES if width >= bits)
    low, high = PLACES[below], PLACES[above]
    return low + (high - low) * (bits - below) / max(above - below, 1)
