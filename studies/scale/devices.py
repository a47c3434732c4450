"""Devices by their data sheets, and what of these a search gets: all of it assumed."""

from __future__ import annotations

from dataclasses import dataclass


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
        threads: of the host that decode and process pictures.
        source: where this stands.
    """

    name: str
    flops: float
    plain_flops: float
    bandwidth: float
    link: float
    memory: float
    threads: int
    source: str


DEVICES = {
    "h100": Device(
        "H100 SXM",
        989e12,
        67e12,
        3.35e12,
        50e9,
        80e9,
        16,
        "NVIDIA H100 data sheet; PCIe 5 x16 as it is reached; a host of 16 threads",
    ),
    "h200": Device(
        "H200 SXM",
        989e12,
        67e12,
        4.8e12,
        50e9,
        141e9,
        16,
        "NVIDIA H200 data sheet; PCIe 5 x16 as it is reached; a host of 16 threads",
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
        20, "unpacking, scaling and rounding as single kernels with float32 in between"
    ),
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
    "kernels a column of GPTQ in blocks": Figure(
        1.4, "counted alike, blocks of columns as single kernels (quant/fused.py)"
    ),
    "kernels a column of AWQ in blocks": Figure(
        22.4, "counted alike: what is left is the search of ranges of each width"
    ),
    "flops a weight of GPTQ": Figure(
        180e3,
        "six widths at inputs of 7B: products of 24 times the inputs, steps in blocks",
    ),
    "flops a weight of AWQ": Figure(
        240e3, "the same: products of 33 times the inputs, 18 ranges for each width"
    ),
    "rounds of rows": Figure(
        4.6, "chunks of 256 MB that a set of 7B at six widths was solved in"
    ),
    "kernels a column of a finalization": Figure(
        21, "counted alike, of one width: half of the linears by GPTQ, half by AWQ"
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
