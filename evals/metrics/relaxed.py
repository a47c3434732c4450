"""Relaxed accuracy: numbers may be off by 5 %, everything else has to match.

Masry et al., "ChartQA" (ACL Findings 2022), after Methani et al., "PlotQA" (WACV 2020),
as pix2struct's metrics.py in https://github.com/google-research/pix2struct computes it
(also in lmms-eval and VLMEvalKit): "12%" is the number 0.12, and what is no number is
compared without regard to capitals. Years are numbers, too: 2010 is right for 2015.

Four things that code counts wrong are right here: "1,000" for 1000 (a number with marks
between its thousands), "0.0" for 0, 1.05 for 1 (5 % off, if not to a computer), and a
reply with blanks around it or a final period.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from evals.metrics._scoring import PerReply, best_of
from evals.metrics._words import comparable

if TYPE_CHECKING:
    from allocator.core.own import Metric

TOLERANCE = 0.05
NUMBER = re.compile(
    r"([-+]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?) ?(%?)"
)


def relaxed(reply: str, reference: str) -> float:
    """100 if a reply is the answer, or a number close to it, else 0."""
    given, wanted = comparable(reply), comparable(reference)
    number, target = _number(given), _number(wanted)
    if number is None or target is None:
        return 100.0 * (given == wanted)
    # binary fractions are not quite what was written
    allowed = TOLERANCE * abs(target) * (1 + 1e-9)
    return 100.0 * (abs(number - target) <= allowed)


def _number(text: str) -> float | None:
    """What a text says as a number, if it is one."""
    found = NUMBER.fullmatch(text)
    if not found:
        return None
    value = float(found[1].replace(",", "")) / (100 if found[2] else 1)
    return value if math.isfinite(value) else None


PLUGIN: Metric = PerReply("relaxed accuracy (%)", 1, best_of(relaxed))
