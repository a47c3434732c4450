"""The steps, in order, and the seconds that each may take on an H100."""

from __future__ import annotations

from studies.gpu._asked import generation, model, prompts, vision
from studies.gpu._overflow import overflow
from studies.gpu._solved import bank, finalization, solving
from studies.gpu._swapped import swaps

STEPS = (
    ("model", model, 30.0),
    ("vision", vision, 10.0),
    ("prompts", prompts, 10.0),
    ("generation", generation, 30.0),
    ("swaps", swaps, 30.0),
    ("overflow", overflow, 8.0),
    ("solving", solving, 25.0),
    ("bank", bank, 80.0),
    ("finalization", finalization, 40.0),
)
