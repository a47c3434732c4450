"""The published uniform sweep: what was asked for, and what was applied."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from allocator.explain.evidence import Evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = Path(__file__).parent / "blip2_coco_uniform.csv"
COMPONENTS, PARTS, TYPES = (
    ("vit", "qformer", "llm"),
    ("front", "middle", "last"),
    ("attn", "ff"),
)
KEYS = tuple(f"{c}_{p}_{t}" for c in COMPONENTS for p in PARTS for t in TYPES)
# what the names of layer types mean in the sweep
ASKED = {"ATTENTION": {"attn"}, "MLP": {"ff"}, "BOTH": {"attn", "ff"}}
PARAMETERS = 3_744_761_856


@dataclass(frozen=True)
class Sweep:
    """All runs: bits applied and asked for [n, 18], CIDEr [n], sizes in bpw [n].

    `config` numbers the runs, `same_weights` and `same_captions` name the first run
    with the same weights, and with the same captions; `patterns` are the block groups
    that were asked for.
    """

    applied: NDArray[np.float64]
    requested: NDArray[np.float64]
    scores: NDArray[np.float64]
    bpw: NDArray[np.float64]
    bpw_requested: NDArray[np.float64]
    config: NDArray[np.int64]
    same_weights: NDArray[np.int64]
    same_captions: NDArray[np.int64]
    patterns: NDArray[np.str_]

    @property
    def models(self) -> NDArray[np.bool_]:
        """One run of each distinct model."""
        found: NDArray[np.bool_] = self.config == self.same_weights
        return found

    @property
    def dead(self) -> tuple[str, ...]:
        """Knobs that were asked for and never applied."""
        asked = (self.requested != 16).any(axis=0)
        turned = (self.applied != 16).any(axis=0)
        return tuple(np.array(KEYS)[asked & ~turned].tolist())

    @property
    def repeated(self) -> list[NDArray[np.int64]]:
        """Runs of each model that was run under several requests."""
        runs = defaultdict(list)
        for at, first in enumerate(self.same_weights):
            runs[int(first)].append(at)
        return [np.array(each) for each in runs.values() if len(each) > 1]

    def evidence(self, *, believed: bool) -> Evidence:
        """What importance is fitted to: the bits asked for, or those applied."""
        if believed:
            return Evidence(KEYS, self.requested, self.scores)
        return Evidence(KEYS, self.applied[self.models], self.scores[self.models])


def read() -> Sweep:
    """The sweep as it is in the file, requests read from their patterns."""
    with FILE.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def column(name: str, kind: type = float) -> NDArray:
        return np.array([kind(row[name]) for row in rows])

    return Sweep(
        applied=np.column_stack([column(key) for key in KEYS]),
        requested=np.array([requested(row) for row in rows], dtype=np.float64),
        scores=column("cider"),
        bpw=column("bpw"),
        bpw_requested=column("bpw_requested"),
        config=column("config_id", int),
        same_weights=column("same_weights_as", int),
        same_captions=column("same_captions_as", int),
        patterns=np.array(
            [" ".join(row[f"requested_{name}"] for name in COMPONENTS) for row in rows]
        ),
    )


def requested(row: dict[str, str]) -> list[int]:
    """Bits asked for in each of the 18 groups.

    A request names one width, the layer types it is for, and for each component the
    block groups as a pattern such as `FM-`: front and middle.
    """
    bits = []
    for key in KEYS:
        component, part, kind = key.split("_")
        pattern = row[f"requested_{component}"]
        meant = pattern["FML".index(part[0].upper())] != "-"
        meant = meant and kind in ASKED[row["requested_type"]]
        bits.append(int(row["requested_bits"]) if meant else 16)
    return bits


def weights(bits: NDArray[np.float64], bpw: NDArray[np.float64]) -> NDArray:
    """Weights of each group that sizes tell, by least squares; 0 where they do not."""
    missing = 16 - bits
    turned = missing.any(axis=0)
    found = np.zeros(len(KEYS))
    saved = (16 - bpw) * PARAMETERS
    found[turned] = np.linalg.lstsq(missing[:, turned], saved, rcond=None)[0]
    return found
