"""The published tables, their scores, and what was printed of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from allocator.explain.evidence import Evidence
from allocator.space.csv_file import read_csv

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Case:
    """A table, a score, and the consensus printed for it, None where none is."""

    title: str
    file: str
    score: str
    printed: tuple[float, ...] | None = None

    @property
    def evidence(self) -> Evidence:
        """The table's rows."""
        sheet = read_csv(FOLDER / self.file, (self.score,))
        bits = np.array(sheet.bits, dtype=np.float64)
        return Evidence(sheet.keys, bits, np.array(sheet.scores(self.score)))


CAPTIONS, RECALLS = "blip2_coco_awq.csv", "blip2_flickr_awq.csv"
CASES = (
    Case("AWQ, COCO captions, CIDEr", CAPTIONS, "CIDEr", (17.1, 2.5, 80.5)),
    Case("AWQ, COCO captions, METEOR", CAPTIONS, "METEOR"),
    Case("AWQ, Flickr30k, image recall at 1", RECALLS, "img_r1", (84.7, 15.3)),
    Case("AWQ, Flickr30k, text recall at 1", RECALLS, "txt_r1", (73.2, 26.8)),
    Case("AWQ, Flickr30k, text recall, mean of 1, 5, 10", RECALLS, "txt_r_mean"),
)
