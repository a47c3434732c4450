from __future__ import annotations

import pytest
import torch

from allocator.core.errors import BankError, SpecError
from quant import packing
from quant.grid import LOW_WIDTHS
from quant.packing import pack, packed_bytes, unpack

WIDTH = pytest.mark.parametrize("bits", LOW_WIDTHS)


def random_codes(bits: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(bits)
    return torch.randint(2**bits, shape, generator=generator).to(torch.uint8)


@WIDTH
@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 63, 64, 1001])
def test_packed_codes_are_one_little_endian_number(bits: int, count: int) -> None:
    codes = random_codes(bits, count)
    packed = pack(codes, bits)
    number = sum(code << (bits * place) for place, code in enumerate(codes.tolist()))
    assert packed.dtype == torch.uint8
    assert len(packed) == packed_bytes(count, bits) == -(-count * bits // 8)
    assert int.from_bytes(bytes(packed.tolist()), "little") == number
    assert unpack(packed, bits, codes.shape).equal(codes)


@WIDTH
def test_codes_that_share_words_do_not_mix(bits: int) -> None:
    # one code of all ones at a time, then one of all zeros
    lone = torch.eye(16, dtype=torch.uint8) * (2**bits - 1)
    for codes in (lone, lone.max() - lone):
        assert unpack(pack(codes, bits), bits, (16, 16)).equal(codes)
        for row in codes:
            assert unpack(pack(row, bits), bits, (16,)).equal(row)


@WIDTH
@pytest.mark.parametrize("words", [1, 3, 1000])
def test_the_stream_does_not_depend_on_how_many_words_are_handled_at_a_time(
    bits: int, words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = random_codes(bits, 21, 19)
    packed = pack(codes, bits)
    monkeypatch.setattr(packing, "CPU_OCTETS", words)
    assert pack(codes, bits).equal(packed)
    assert unpack(packed, bits, codes.shape).equal(codes)


@WIDTH
@pytest.mark.parametrize("shape", [(13, 37), (2, 3, 5), (0, 4), (1, 1), ()], ids=str)
def test_unpacking_gives_back_codes_of_any_shape(
    bits: int, shape: tuple[int, ...]
) -> None:
    codes = random_codes(bits, *shape)
    found = unpack(pack(codes, bits), bits, shape)
    assert found.dtype == torch.uint8
    assert found.is_contiguous()
    assert found.shape == shape
    assert found.equal(codes)


@WIDTH
def test_codes_are_read_in_row_order_however_they_lie_in_memory(bits: int) -> None:
    codes = random_codes(bits, 24, 16)
    for view in (codes.T, codes[::2], codes[:, 3:], codes[0].expand(5, 16)):
        assert pack(view, bits).equal(pack(view.clone().contiguous(), bits))


@WIDTH
def test_neither_direction_modifies_or_shares_its_input(bits: int) -> None:
    codes = random_codes(bits, 4, 16)
    kept = codes.clone()
    packed = pack(codes, bits)
    stream = packed.clone()
    unpack(packed, bits, codes.shape).zero_()
    assert packed.equal(stream)
    packed.zero_()
    assert codes.equal(kept)


def test_three_bit_codes_straddle_bytes() -> None:
    codes = torch.tensor([1, 2, 7], dtype=torch.uint8)
    # 111 010 001 from the right: 0b11010001 and one bit of the 7 left over
    assert pack(codes, 3).tolist() == [0b11010001, 0b1]


def test_a_code_too_large_for_its_width_is_refused() -> None:
    with pytest.raises(SpecError, match="code 4 does not fit into 2 bits"):
        pack(torch.tensor([1, 4], dtype=torch.uint8), 2)


@pytest.mark.parametrize("bits", [0, 1, 7, 16])
def test_a_width_without_codes_is_refused(bits: int) -> None:
    codes = torch.zeros(8, dtype=torch.uint8)
    with pytest.raises(SpecError, match="not among"):
        pack(codes, bits)
    with pytest.raises(SpecError, match="not among"):
        unpack(codes, bits, (8,))


@WIDTH
@pytest.mark.parametrize("more", [-1, 1])
def test_packed_bytes_that_do_not_fit_the_shape_are_refused(
    bits: int, more: int
) -> None:
    # 2 x 4 codes take a byte for each bit
    packed = torch.zeros(bits + more, dtype=torch.uint8)
    with pytest.raises(BankError, match=f"{bits + more} packed bytes are not the"):
        unpack(packed, bits, (2, 4))


@WIDTH
@pytest.mark.gpu
def test_an_accelerator_makes_the_same_bytes(bits: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    codes = random_codes(bits, 333, 777)
    packed = pack(codes.cuda(), bits)
    assert packed.cpu().equal(pack(codes, bits))
    assert unpack(packed, bits, codes.shape).cpu().equal(codes)
