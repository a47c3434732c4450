"""Codes in int32 words, row by row, as compressed-tensors stores them.

Two ways, the first code in the lowest bits in both: *padded*, where no code lies across
two words, so that 3, 5 and 6 bits leave some unused (compressed-tensors up to 0.17,
`pack_to_int32` in compressors/pack_quantized/helpers.py), and *dense*, a stream of bits
that ends with a word (from 0.18 on, and vLLM). At 2, 4 and 8 bits they are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from quant.packing import pack

if TYPE_CHECKING:
    from torch import Tensor

WORD = 32
# codes that are read at once: each is eight bytes wide meanwhile
CODES = 2**22


def to_words(codes: Tensor, bits: int, *, dense: bool) -> Tensor:
    """Pack each row of codes.

    Args:
        codes: [rows, count] uint8, each below 2**bits.
        bits: 2, 3, 4, 5, 6 or 8.
        dense: how; see above.

    Returns:
        [rows, words] int32.

    >>> codes = torch.arange(1, 7, dtype=torch.uint8).view(1, 6)
    >>> to_words(codes, 6, dense=False).tolist()  # five to a word; 1 + 2*64 + ...
    [[84947073, 6]]
    >>> to_words(codes, 6, dense=True).tolist()  # the sixth begins at bit 30
    [[-2062536575, 1]]
    """
    return _dense(codes, bits) if dense else _padded(codes, bits)


def _dense(codes: Tensor, bits: int) -> Tensor:
    rows, count = codes.shape
    # 32 codes fill as many words as they have bits, so rows end with a word
    filled = torch.nn.functional.pad(codes, (0, -count % WORD))
    words = pack(filled, bits).view(torch.int32).view(rows, -1)
    return words[:, : -(-count * bits // WORD)].contiguous()


def _padded(codes: Tensor, bits: int) -> Tensor:
    rows, count = codes.shape
    each = WORD // bits
    words = codes.new_zeros(rows, -(-count // each), dtype=torch.int32)
    for place in range(each):
        some = codes[:, place::each].to(torch.int32) << bits * place
        words[:, : some.shape[1]] |= some
    return words


def from_words(words: Tensor, bits: int, count: int, *, dense: bool) -> Tensor:
    """Codes of each row, read one by one where they lie: this undoes nothing of above.

    Args:
        words: [rows, words] int32.
        bits: 2, 3, 4, 5, 6 or 8.
        count: codes of a row.
        dense: how they are packed.

    Returns:
        [rows, count] uint8.

    >>> from_words(torch.tensor([[84947073, 6]], dtype=torch.int32), 6, 6, dense=False)
    tensor([[1, 2, 3, 4, 5, 6]], dtype=torch.uint8)
    """
    index = torch.arange(count)
    each = WORD // bits
    first = index * bits if dense else index // each * WORD + index % each * bits
    word, shift = first // WORD, first % WORD
    after = (word + 1).clamp(max=words.shape[1] - 1)
    codes = torch.empty(len(words), count, dtype=torch.uint8)
    at_once = max(1, CODES // count)
    for start in range(0, len(words), at_once):
        # unsigned: what is shifted in from the left must be 0
        some = words[start : start + at_once].to(torch.int64) & 2**WORD - 1
        found = some[:, word] >> shift | some[:, after] << WORD - shift
        codes[start : start + at_once] = found & 2**bits - 1
    return codes
