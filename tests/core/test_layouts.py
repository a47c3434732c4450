from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import (
    Allocation,
    Choice,
    Scheme,
    linear_bytes,
    rest_bytes,
    stored_size,
)
from allocator.core.layouts import GGML_TYPES, LAYOUTS, Matrix
from allocator.core.spec import Linear

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec

LOW = (2, 3, 4, 5, 6, 8)


def linear(rows: int, columns: int) -> Linear:
    return Linear("x", "language", 0, "attn", rows, columns)


def matrix(rows: int, columns: int, group: int, bits: int, zero_bits: int) -> Matrix:
    return Matrix(rows, columns, rows * columns // group, bits, zero_bits)


@pytest.mark.parametrize(
    ("layout", "bits", "symmetric", "expected"),
    [
        # 64 x 256 in groups of 128: 128 scales. Codes of 3 bits: ten to a word of 32,
        # so that a row of 256 takes 26 words; 64 zero-points of a group take 7 words
        ("transformers", 3, False, 64 * 26 * 4 + 128 * 2 + 2 * 7 * 4 + 16),
        ("transformers", 3, True, 64 * 26 * 4 + 128 * 2 + 16),
        # six to a word: 43 and 11 words
        ("transformers", 5, False, 64 * 43 * 4 + 128 * 2 + 2 * 11 * 4 + 16),
        # eight to a word: 32 and 8
        ("transformers", 4, False, 64 * 32 * 4 + 128 * 2 + 2 * 8 * 4 + 16),
        # a stream: 256 x 3 bits are 24 words, 64 x 3 bits are 6
        ("vllm", 3, False, 64 * 24 * 4 + 128 * 2 + 2 * 6 * 4 + 16),
        ("vllm", 6, True, 64 * 48 * 4 + 128 * 2 + 16),
        # no shape, and zero-points whether they are needed or not
        ("auto-round", 3, False, 64 * 24 * 4 + 128 * 2 + 2 * 6 * 4),
        ("auto-round", 3, True, 64 * 24 * 4 + 128 * 2 + 2 * 6 * 4),
        # a scale and a bias of four bytes each for 128 groups
        ("mlx", 3, False, 64 * 24 * 4 + 128 * 8),
        ("mlx", 8, True, 64 * 64 * 4 + 128 * 8),
        ("mlx-fp16", 3, False, 64 * 24 * 4 + 128 * 4),
        # codes 64 x 96 bytes, 128 scales, zero-points 128 x 3 bits
        ("none", 3, False, 64 * 96 + 128 * 2 + 48 + 16),
    ],
)
def test_a_layout_stores_the_bytes_added_up_by_hand(
    layout: str, bits: int, symmetric: bool, expected: int
) -> None:
    own = matrix(64, 256, 128, bits, 0 if symmetric else bits)
    assert LAYOUTS[layout].matrix(own) == expected
    scheme = Scheme(128, symmetric)
    assert linear_bytes(linear(64, 256), scheme, bits, layout) == expected


@pytest.mark.parametrize(("bits", "block"), [(4, 2 + 16), (5, 2 + 4 + 16), (8, 2 + 32)])
def test_a_block_of_ggml_is_a_scale_and_the_codes_of_32_weights(
    bits: int, block: int
) -> None:
    own = linear_bytes(linear(10, 96), Scheme(32, True), bits, "llama.cpp")
    assert own == 10 * 3 * block


@pytest.mark.parametrize("layout", LAYOUTS)
def test_at_sixteen_bits_a_linear_is_its_weights_in_every_layout(layout: str) -> None:
    assert linear_bytes(linear(10, 96), Scheme(), 16, layout) == 2 * 960


def test_a_target_counts_as_its_runtime_stores() -> None:
    for target, layout in (("transformers", "transformers"), ("mlx", "mlx")):
        own = linear_bytes(linear(64, 256), Scheme(target=target), 3)
        assert own == linear_bytes(linear(64, 256), Scheme(), 3, layout)
        assert own > linear_bytes(linear(64, 256), Scheme(), 3)


def test_vectors_and_positions_are_wide_in_ggml_alone(toy: ModelSpec) -> None:
    others = (("norm.weight", (96,)), ("pos_embed.weight", (4, 8)), ("words", (10, 96)))
    spec = replace(toy, others=others)
    # the toy has 4,096 parameters outside its groups
    for layout in LAYOUTS:
        wide = 96 + 32 if layout == "llama.cpp" else 0
        assert rest_bytes(spec, Scheme(), layout) == 2 * 4_096 + 2 * wide
    size = stored_size(
        spec, Scheme(), Allocation.uniform(spec, Choice(16)), "llama.cpp"
    )
    assert size.quantized_bytes == 2 * 98_304
    assert size.model_bytes == 2 * 102_400 + 2 * 128


def test_compressed_tensors_packs_as_much_as_is_counted() -> None:
    package = pytest.importorskip("compressed_tensors", reason="needs the export extra")
    torch = pytest.importorskip("torch")
    packing = pytest.importorskip(
        "compressed_tensors.compressors.pack_quantized.helpers"
    )

    # from 0.18 on codes are packed as vLLM reads them
    minor = int(package.__version__.split(".")[1])
    layout = "transformers" if minor < 18 else "vllm"
    rng = random.Random(0)
    for _ in range(50):
        rows, groups = rng.randint(1, 70), rng.choice((1, 2, 3))
        columns, bits = groups * rng.choice((5, 32, 64)), rng.choice(LOW)
        codes = torch.zeros(rows, columns, dtype=torch.int8)
        zeros = torch.zeros(rows, groups, dtype=torch.int8)
        # beside codes: fp16 scales and two int64
        plain = packing.pack_to_int32(codes, bits).nbytes + 2 * rows * groups + 16
        packed = packing.pack_to_int32(zeros, bits, packed_dim=0).nbytes
        own = matrix(rows, columns, columns // groups, bits, bits)
        assert LAYOUTS[layout].matrix(own) == plain + packed
        assert LAYOUTS[layout].matrix(replace(own, zero_bits=0)) == plain


@pytest.mark.parametrize("bits", LOW)
def test_auto_round_has_buffers_of_as_many_bytes(bits: int) -> None:
    linears = pytest.importorskip(
        "auto_round_extension.torch.qlinear_torch", reason="needs auto-round"
    )
    made = linears.QuantLinear(bits, 128, 384, 96, bias=False)
    stored = sum(buffer.nbytes for buffer in made.buffers())
    for zero_bits in (0, bits):
        own = matrix(96, 384, 128, bits, zero_bits)
        assert LAYOUTS["auto-round"].matrix(own) == stored


@pytest.mark.parametrize("bits", LOW)
def test_mlx_quantizes_into_as_many_bytes(bits: int) -> None:
    mx = pytest.importorskip("mlx.core", reason="needs mlx")
    for group in (32, 64, 128):
        made = mx.quantize(mx.zeros((7, 384)), group_size=group, bits=bits)
        own = matrix(7, 384, group, bits, bits)
        assert LAYOUTS["mlx"].matrix(own) == sum(array.nbytes for array in made)


def test_blocks_are_of_the_sizes_that_gguf_has() -> None:
    gguf = pytest.importorskip("gguf", reason="needs gguf")
    for name, (_, block) in GGML_TYPES.items():
        kind = gguf.GGMLQuantizationType[name]
        assert gguf.GGML_QUANT_SIZES[kind] == (32, block)
