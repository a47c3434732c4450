"""Codes as a stream of bits, the first code in the lowest bits.

Eight codes fill `bits` whole bytes and fit into one 64-bit word. In such words codes
are moved apart, to one a byte, or back together in three steps: fours, pairs, single
codes. Each step is a few operations on whole words; no code is wider than a byte.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from allocator.core.errors import BankError, SpecError
from quant.chunks import at_once
from quant.grid import check_widths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

# words handled at a time: on a CPU they and what a step shifts, 512 KiB each, stay in
# cache; elsewhere starting a step costs more than memory does
CPU_WORDS = 2**16
DEVICE_WORDS = 2**22


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `pack` makes of `count` codes.

    >>> packed_bytes(3, 3)
    2
    """
    return -(-count * bits // 8)


def pack(codes: Tensor, bits: int) -> Tensor:
    """Pack codes into a stream of bits.

    Args:
        codes: any shape, uint8, each below 2**bits; read in row order.
        bits: 2, 3, 4, 5, 6 or 8.

    Returns:
        uint8 of ceil(n * bits / 8) bytes; bits left over are 0.

    Raises:
        SpecError: another width, or a code that does not fit.

    >>> pack(torch.tensor([1, 2, 3], dtype=torch.uint8), 4).tolist()  # 0x21, 0x03
    [33, 3]
    """
    check_widths([bits])
    flat = codes.contiguous().flatten()
    if flat.numel() and int(flat.max()) >= 2**bits:
        raise SpecError(f"code {int(flat.max())} does not fit into {bits} bits")
    if bits == 8:
        return flat.to(torch.uint8, copy=True)
    octets = _rows(flat, 8)
    packed = octets.new_empty(len(octets), bits, dtype=torch.uint8)
    for here in _chunks(octets):
        words = octets[here].to(torch.uint8, copy=True)
        _join_(words.view(torch.int64), bits)
        packed[here] = words[:, :bits]
    return packed.flatten()[: packed_bytes(flat.numel(), bits)]


def unpack(packed: Tensor, bits: int, shape: Sequence[int]) -> Tensor:
    """Codes that `pack` has packed: uint8 of the given shape.

    Raises:
        SpecError: a width that has no codes.
        BankError: a number of bytes that does not belong to shape and width.

    >>> unpack(torch.tensor([33, 3], dtype=torch.uint8), 4, (1, 3)).tolist()
    [[1, 2, 3]]
    """
    check_widths([bits])
    count = prod(shape)
    if packed.numel() != packed_bytes(count, bits):
        raise BankError(
            f"{packed.numel()} packed bytes are not the {packed_bytes(count, bits)} "
            f"that {bits}-bit codes of shape {list(shape)} take"
        )
    if bits == 8:
        return packed.clone().view(tuple(shape))
    octets = _rows(packed, bits)
    codes = octets.new_empty(len(octets), 8)
    for here in _chunks(octets):
        # the bytes behind hold anything: spreading lets only codes through
        codes[here, :bits] = octets[here]
        _spread_(codes[here].view(torch.int64), bits)
    return codes.flatten()[:count].view(tuple(shape))


def _rows(flat: Tensor, columns: int) -> Tensor:
    """Numbers [n] as rows of so many, the last one filled up with 0."""
    return torch.nn.functional.pad(flat, (0, -len(flat) % columns)).view(-1, columns)


def _chunks(octets: Tensor) -> Iterator[slice]:
    """Rows of [n, ...] octets that are handled at a time."""
    words = at_once(octets, CPU_WORDS, DEVICE_WORDS)
    return (slice(at, at + words) for at in range(0, len(octets), words))


def _spread_(words: Tensor, bits: int) -> None:
    """Move the codes in the lowest 8 * `bits` bits of int64 words to a byte each."""
    for run in (4, 2, 1):
        kept = _every_other(run, bits)
        moved = (words << run * (8 - bits)).bitwise_and_(kept << 8 * run)
        words.bitwise_and_(kept).bitwise_or_(moved)


def _join_(words: Tensor, bits: int) -> None:
    """Undo `_spread_`; the bytes behind become 0."""
    for run in (1, 2, 4):
        kept = _every_other(run, bits)
        moved = (words >> run * (8 - bits)).bitwise_and_(kept << bits * run)
        words.bitwise_and_(kept).bitwise_or_(moved)


def _every_other(run: int, bits: int) -> int:
    """The bits of every other run of codes, in a word with as many bytes as codes.

    >>> f"{_every_other(2, 3):x}"  # two codes of 3 bits, then 26 bits of others
    '3f0000003f'
    """
    return sum((2 ** (run * bits) - 1) << at for at in range(0, 64, 16 * run))
