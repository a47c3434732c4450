"""Devices by their data sheets, and what of these a search gets: all of it assumed."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Device:
    """A card by its data sheet.

    Attributes:
        name: as it is sold.
        flops: a second, of bfloat16 or float16, dense.
        plain_flops: a second, of float32 outside of tensor cores.
        bandwidth: bytes a second, of its memory.
        link: bytes a second, to and from the host's pinned memory.
        memory: bytes.
        source: where this stands.
    """

    name: str
    flops: float
    plain_flops: float
    bandwidth: float
    link: float
    memory: float
    source: str


DEVICES = {
    "h100": Device(
        "H100 SXM",
        989e12,
        67e12,
        3.35e12,
        50e9,
        80e9,
        "NVIDIA H100 data sheet; PCIe 5 x16 as it is reached",
    ),
    "h200": Device(
        "H200 SXM",
        989e12,
        67e12,
        4.8e12,
        50e9,
        141e9,
        "NVIDIA H200 data sheet; PCIe 5 x16 as it is reached",
    ),
}


@dataclass(frozen=True)
class Figure:
    """A number that nobody measured here, and why it is what it is."""

    value: float
    reason: str


ASSUMED = {
    "share of flops": Figure(
        0.4, "of a data sheet's, in products of a few thousand rows, eager transformers"
    ),
    "share of plain flops": Figure(0.6, "of a data sheet's, in large products"),
    "share of bandwidth": Figure(
        0.5, "of a data sheet's, in kernels element by element"
    ),
    "seconds a block and step": Figure(
        0.94e-3,
        "a step of generation waits for launches: about 30 ms in 32 blocks of eager "
        "transformers, whatever the batch: products and keys take less",
    ),
    "seconds a picture": Figure(
        12e-3, "a COCO picture decoded, resized and normalized by one thread"
    ),
    "steps of a batch": Figure(
        5, "to the end of the longest reply of 8: VQAv2 answers have 2 or 3 tokens"
    ),
    "steps of a large batch": Figure(8, "the same of about 64 replies"),
    "bytes moved a weight": Figure(
        40, "counted: 36 at 4 bits, 55 at 5, each step of decoding a kernel"
    ),
    "kernels a linear": Figure(12, "of decoding its cell, counted"),
    "packed bits": Figure(
        4.25, "of a weight on average, its share of a scale included"
    ),
    "seconds a launch": Figure(5e-6, "of a kernel from Python, which is what it waits"),
    "kernels a column of GPTQ": Figure(
        27.3, "counted (studies/scale/kernels.py): all widths, ranges, polish"
    ),
    "kernels a column of AWQ": Figure(
        52.8, "counted alike: the column loop of the polish, and each width's search"
    ),
    "once": Figure(1, "all rows of a set at one width are one chunk"),
    "rounds of rows": Figure(
        4.6, "chunks of 256 MB that a set of 7B at six widths was solved in"
    ),
    "kernels a column of GPTQ now": Figure(
        2, "one for 64 columns, and the products behind them (quant/fused.py)"
    ),
    "kernels a column of AWQ now": Figure(
        29, "counted at 8 bits, times six widths: its search; the polish is fused"
    ),
    "kernels a column of a finalization": Figure(
        3.4, "the same of one width: half of the linears by GPTQ, half by AWQ"
    ),
    "sweeps": Figure(
        4, "over all columns of each width, solved and polished: products in float32"
    ),
    "rounds of a finalization": Figure(
        3, "inputs are gathered: at full precision, quantized, and their drift"
    ),
    "passes of a finalization": Figure(
        6, "over the calibration samples: one at full precision, one for each set"
    ),
}


def assumed(name: str) -> float:
    """The value of an assumed figure."""
    return ASSUMED[name].value


@contextmanager
def assuming(values: Mapping[str, float]) -> Iterator[None]:
    """Take other values meanwhile."""
    before = dict(ASSUMED)
    ASSUMED.update({name: Figure(value, "given") for name, value in values.items()})
    try:
        yield
    finally:
        ASSUMED.update(before)
