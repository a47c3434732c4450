"""Codes as a stream of bits, the first code in the lowest bits.

A few codes fill whole bytes (`WORDS`), and fit into one word that has a byte for each.
In such words codes are moved apart, or back together: halves, then halves of these,
down to single codes. Each step is a few operations on whole words; no code is wider
than a byte.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch

from allocator.core.errors import BankError, SpecError
from quant.grid import check_widths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

# types of the words in which codes of each width are moved, a byte for each code
WORDS = {
    2: torch.int32,
    3: torch.int64,
    4: torch.int16,
    5: torch.int64,
    6: torch.int32,
}
# eights of codes handled at a time: on a CPU they and the float32 weights that they
# become, 1 MiB, stay in cache; elsewhere starting a step costs more than memory does
CPU_OCTETS = 2**15
DEVICE_OCTETS = 2**22


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
    codes = packed.new_empty(count)
    at = 0
    for chunk in unpacked_chunks(packed, bits, 8 * octets_at_once(packed.device)):
        here = codes[at : at + len(chunk)]
        here.copy_(chunk[: len(here)])
        at += len(here)
    return codes.view(tuple(shape))


def unpacked_chunks(packed: Tensor, bits: int, size: int) -> Iterator[Tensor]:
    """Codes of a packed stream in order, some at a time.

    Args:
        packed: [n] uint8.
        bits: 2, 3, 4, 5, 6 or 8.
        size: codes at a time, a multiple of 8.

    Yields:
        [size] uint8 that hold until the next are asked for, and are not to be changed;
        the last may be fewer, and have up to 7 codes of 0 behind them.
    """
    if bits == 8:
        yield from (packed[at : at + size] for at in range(0, len(packed), size))
        return
    run = WORDS[bits].itemsize
    taken = run * bits // 8
    words = packed.new_empty(
        min(size // run, -(-len(packed) // taken)), dtype=WORDS[bits]
    )
    moved = torch.empty_like(words)
    for at in range(0, len(packed), size // run * taken):
        count = min(len(words), -(-(len(packed) - at) // taken))
        _load(words[:count], packed, at, taken)
        _spread_(words[:count], moved[:count], bits)
        yield words[:count].view(torch.uint8)


def octets_at_once(device: torch.device) -> int:
    """Eights of codes that are handled at a time on a device."""
    return CPU_OCTETS if device.type == "cpu" else DEVICE_OCTETS


def _load(words: Tensor, packed: Tensor, at: int, taken: int) -> None:
    """Fill each word with so many bytes of a stream; those behind hold anything.

    Where it takes one byte, those behind are 0.
    """
    stop = at + len(words) * taken
    if stop > len(packed) - words.itemsize:
        # a word is read whole
        more = stop + words.itemsize - len(packed)
        packed, at = torch.nn.functional.pad(packed[at:], (0, more)), 0
    if taken == 1:
        words.copy_(packed[at : at + len(words)])
    elif packed.device.type == "cpu":
        whole = words.numpy()
        whole[:] = np.ndarray(
            whole.shape, whole.dtype, packed.numpy(), offset=at, strides=(taken,)
        )
    else:
        octets = words.view(torch.uint8).view(-1, words.itemsize)
        octets[:, :taken] = packed[at : at + len(words) * taken].view(-1, taken)


def _rows(flat: Tensor, columns: int) -> Tensor:
    """Numbers [n] as rows of so many, the last one filled up with 0."""
    return torch.nn.functional.pad(flat, (0, -len(flat) % columns)).view(-1, columns)


def _chunks(octets: Tensor) -> Iterator[slice]:
    """Rows of [n, ...] octets that are handled at a time."""
    size = octets_at_once(octets.device)
    return (slice(at, at + size) for at in range(0, len(octets), size))


def _spread_(words: Tensor, moved: Tensor, bits: int) -> None:
    """Move the codes in the lowest bits of words to a byte each; `moved` is scratch."""
    size = words.itemsize
    # bytes behind the codes that hold anything
    is_clean = size * bits == 8
    run = size // 2
    while run:
        kept = _every_other(run, bits, size)
        torch.bitwise_left_shift(words, run * (8 - bits), out=moved)
        if is_clean and bits <= 4:
            # what moves leaves nothing where a code is looked for
            words.bitwise_or_(moved).bitwise_and_(kept | kept << 8 * run)
        else:
            moved.bitwise_and_(kept << 8 * run)
            words.bitwise_and_(kept).bitwise_or_(moved)
        is_clean = True
        run //= 2


def _join_(words: Tensor, bits: int) -> None:
    """Move codes in the lowest bits of each byte of int64 words together.

    The bytes behind become 0.
    """
    for run in (1, 2, 4):
        kept = _every_other(run, bits)
        moved = (words >> run * (8 - bits)).bitwise_and_(kept << bits * run)
        words.bitwise_and_(kept).bitwise_or_(moved)


def _every_other(run: int, bits: int, size: int = 8) -> int:
    """The bits of every other run of codes, in a word with `size` bytes for as many.

    >>> f"{_every_other(2, 3):x}"  # two codes of 3 bits, then 26 bits of others
    '3f0000003f'
    """
    return sum((2 ** (run * bits) - 1) << at for at in range(0, 8 * size, 16 * run))
