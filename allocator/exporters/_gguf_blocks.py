"""Codes as ggml stores them: blocks of 32 weights, each with an fp16 scale.

A weight is scale * q with an integer q; here q is a code minus its zero-point. As
gguf 0.19 reads them (quants.py, Q4_0, Q5_0, Q8_0), a block is

- Q4_0: the scale, then 16 bytes: q + 8 of weight n in the low half of byte n, of weight
  n + 16 in the high half;
- Q5_0: the scale, a 32-bit word with bit 4 of every q + 16, then low bits as in Q4_0;
- Q8_0: the scale, then 32 signed bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from allocator.core.targets import GGML_BLOCK, ggml_type

if TYPE_CHECKING:
    from torch import Tensor

    from quant.grid import Cell

OFFSETS = {"Q4_0": 8, "Q5_0": 16, "Q8_0": 0}


def to_blocks(cell: Cell, rows: Tensor) -> Tensor:
    """Some rows of a cell as ggml blocks.

    Args:
        cell: of a width and zero-points that a type holds; its columns and groups are
            multiples of 32.
        rows: [n] int64, which ones.

    Returns:
        [n, bytes of a row] uint8.
    """
    kind = ggml_type(cell.bits, symmetric=cell.zero is None)
    assert kind is not None
    repeats = cell.columns // GGML_BLOCK
    scale = cell.scale[rows].half().repeat_interleave(repeats, 1)
    zero = cell.zero_point[rows].short().repeat_interleave(repeats, 1)
    codes = cell.codes[rows].view(len(rows), -1, GGML_BLOCK).short()
    integers = codes - zero[..., None] + OFFSETS[kind]
    parts = [scale[..., None].view(torch.uint8)]
    if kind == "Q8_0":
        parts.append(integers.to(torch.int8).view(torch.uint8))
    else:
        if kind == "Q5_0":
            parts.append(_packed_bits(integers >> 4))
        low, high = (integers & 15).to(torch.uint8).chunk(2, -1)
        parts.append(low | high << 4)
    return torch.cat(parts, -1).flatten(1)


def _packed_bits(bits: Tensor) -> Tensor:
    """Bits [..., 32] as 4 bytes, the first in the lowest bit."""
    weights = 2 ** torch.arange(8, dtype=torch.int16)
    octets = bits.view(*bits.shape[:-1], -1, 8) * weights
    return octets.sum(-1).to(torch.uint8)
