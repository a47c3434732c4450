"""Words are those of compressed-tensors, to the last bit."""

from __future__ import annotations

import pytest
import torch

from allocator.exporters._words import from_words, to_words
from quant.grid import LOW_WIDTHS

EACH_WIDTH = pytest.mark.parametrize("bits", LOW_WIDTHS)
COUNTS = (1, 5, 31, 32, 33, 96, 128, 300)


def random_codes(bits: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    codes = torch.randint(2**bits, (7, count), generator=generator, dtype=torch.uint8)
    # the widest code, in the first place and in the last
    codes[0, 0] = codes[-1, -1] = 2**bits - 1
    return codes


def test_three_bits_leave_two_unused_or_cross_words() -> None:
    codes = torch.full((1, 11), 7, dtype=torch.uint8)
    # ten to a word: 30 ones, and one code in the next
    assert to_words(codes, 3, dense=False).tolist() == [[2**30 - 1, 7]]
    # 33 ones: a whole word, -1 as int32, and a single bit
    assert to_words(codes, 3, dense=True).tolist() == [[-1, 1]]


@EACH_WIDTH
@pytest.mark.parametrize("count", COUNTS)
def test_padded_words_are_those_of_compressed_tensors(bits: int, count: int) -> None:
    helpers = pytest.importorskip(
        "compressed_tensors.compressors.pack_quantized.helpers",
        reason="compressed-tensors is not installed",
    )
    codes = random_codes(bits, count)
    signed = (codes.int() - 2 ** (bits - 1)).to(torch.int8)
    theirs = helpers.pack_to_int32(signed, bits)
    assert torch.equal(to_words(codes, bits, dense=False), theirs)


@EACH_WIDTH
@pytest.mark.parametrize("count", COUNTS)
def test_dense_words_are_a_stream_of_bits(bits: int, count: int) -> None:
    codes = random_codes(bits, count)
    for row, words in zip(
        codes.tolist(), to_words(codes, bits, dense=True), strict=True
    ):
        stream = sum(code << bits * place for place, code in enumerate(row))
        unsigned = [word % 2**32 for word in words.tolist()]
        assert sum(word << 32 * place for place, word in enumerate(unsigned)) == stream
        assert len(unsigned) == -(-count * bits // 32)


@EACH_WIDTH
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("count", COUNTS)
def test_codes_are_read_back(bits: int, dense: bool, count: int) -> None:
    codes = random_codes(bits, count)
    words = to_words(codes, bits, dense=dense)
    assert torch.equal(from_words(words, bits, count, dense=dense), codes)


def test_many_rows_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("allocator.exporters._words.CODES", 100)
    codes = random_codes(5, 33)
    words = to_words(codes, 5, dense=True)
    assert torch.equal(from_words(words, 5, 33, dense=True), codes)
