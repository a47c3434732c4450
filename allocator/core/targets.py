"""Runtimes that load what is exported: what each holds, and in how many bytes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

FULL = 16
SCALE_BITS = 16
# the shape of a packed matrix, two int64, as compressed-tensors stores it
BOOKKEEPING_BYTES = 16
WORD_BITS = 32
# bytes of a ggml block of 32 weights: an fp16 scale, then codes; the fifth bits of
# Q5_0 are a word of their own (gguf 0.19, constants.py, GGML_QUANT_SIZES)
GGML_BLOCK = 32
GGML_BLOCKS = {4: ("Q4_0", 18), 5: ("Q5_0", 22), 8: ("Q8_0", 34)}
# what llama.cpp's converter keeps in fp32 beside vectors (conversion/base.py,
# prepare_tensors: V_ENC_EMBD_POS)
POSITIONS = re.compile(r"\bpos(ition)?_embed")


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
    Everything else has two bytes a number, or four where `keeps_wide`: vectors (norms,
    biases) and the positions of patches, as ggml wants them.
    """

    description: str
    matrix: Callable[[Matrix], int]
    keeps_wide: bool = False

    def rest(self, parameters: int, others: Iterable[tuple[str, Sequence[int]]]) -> int:
        """Bytes of what has no codes.

        Args:
            parameters: how many numbers that is.
            others: their names and shapes.
        """
        wide = sum(
            math.prod(shape)
            for name, shape in others
            if len(shape) == 1 or POSITIONS.search(name)
        )
        return 2 * parameters + 2 * wide * self.keeps_wide


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
    """Blocks of 32 weights."""
    _, block = GGML_BLOCKS[matrix.bits]
    return matrix.rows * (matrix.columns // GGML_BLOCK) * block


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
    "llama.cpp": Layout("ggml: blocks of 32 weights, vectors in fp32", _ggml, True),
}


@dataclass(frozen=True)
class Target:
    """A runtime, and what it loads.

    Attributes:
        name: what `--target` is given.
        description: the runtime and its format, in a few words.
        layout: of `LAYOUTS`, whose bytes count.
        widths: bits of a weight that it reads.
        group_sizes: that it reads; the first one is taken where none is asked.
        symmetries: whether symmetric grids; the first one likewise.
        whole_rows: rows that no group size divides, or that are shorter than one, may
            be one group; otherwise such a linear stays at 16 bits.
        inputs: what the inputs of a linear must be a multiple of.
        outputs: what its outputs must be.
        fused: linears of one module that must have one scheme.
        extras: what else it reads below 16 bits: head, embeddings.
        notes: what is to be known of a width.
    """

    name: str
    description: str
    layout: str
    widths: tuple[int, ...] = (2, 3, 4, 5, 6, 8, FULL)
    group_sizes: tuple[int | str, ...] = (128, 64, 32, "channel")
    symmetries: tuple[bool, ...] = (False, True)
    whole_rows: bool = True
    inputs: int = 1
    outputs: int = 1
    fused: tuple[tuple[str, ...], ...] = ()
    extras: tuple[str, ...] = ()
    notes: Mapping[int, str] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, Any]:
        """Options of a search that it sets where they are not given."""
        return {
            "widths": self.widths,
            "group_size": self.group_sizes[0],
            "symmetric": self.symmetries[0],
        }

    def group_size_of(self, asked: int | str, in_features: int) -> int | str:
        """Group size of rows of `in_features` weights.

        The largest that it reads, up to what is asked, that divides them, or else
        "channel"; rows that are not longer than a group are one, if they may.
        """
        if isinstance(asked, str) or (in_features <= asked and self.whole_rows):
            return asked if isinstance(asked, str) else in_features
        known = (size for size in self.group_sizes if isinstance(size, int))
        fitting = (size for size in known if size <= asked)
        return next((size for size in fitting if in_features % size == 0), "channel")

    def regroups(self, asked: int | str) -> list[int]:
        """Lengths of rows that it reads, in other groups than target "none" has.

        >>> TARGETS["mlx"].regroups(128), TARGETS["mlx"].regroups(64)
        ([96], [])
        """
        plain, longest = TARGETS["none"], asked if isinstance(asked, int) else 0
        return [
            length
            for length in range(1, longest + 1)
            if self.group_size_of(asked, length)
            not in (plain.group_size_of(asked, length), "channel")
        ]

    def check_grid(self, group_size: int | str, *, symmetric: bool) -> None:
        """Refuse a grid that it does not read.

        Raises:
            SpecError: names what it does.
        """
        if group_size not in self.group_sizes:
            raise SpecError(
                f"group size {group_size!r} is not one of {_listed(self.group_sizes)}"
                f"{self._said}"
            )
        if symmetric not in self.symmetries:
            kinds = {False: "asymmetric", True: "symmetric"}
            raise SpecError(
                f"{kinds[symmetric]} grids are not possible, only "
                f"{kinds[not symmetric]} ones{self._said}"
            )

    def check_widths(self, widths: Sequence[int]) -> None:
        """Refuse widths that it does not read.

        Raises:
            SpecError: names those it does.
        """
        bad = [bits for bits in widths if bits not in self.widths]
        if bad:
            raise SpecError(
                f"width {_listed(bad)} is not possible; widths are "
                f"{_listed(self.widths)}{self._said}"
            )

    @property
    def _said(self) -> str:
        """That it is this target that asks for it."""
        return "" if self.name == "none" else f" (--target {self.name})"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


_EVERY: tuple[Target, ...] = (
    Target(
        "none",
        "no runtime in particular",
        "none",
        group_sizes=(128, 64, 32, "channel", "tensor"),
        extras=("head", "embeddings"),
    ),
    Target(
        "transformers",
        "transformers with compressed-tensors 0.17",
        "transformers",
        extras=("head",),
    ),
    # kernels: vllm 0.32, model_executor/kernels/linear/mixed_precision; divisors as
    # cpu.py has them
    Target(
        "vllm",
        "vLLM 0.32, compressed-tensors",
        "vllm",
        inputs=32,
        outputs=32,
        fused=(("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")),
        notes={
            **dict.fromkeys(
                (2, 3, 5, 6),
                "CUDA from SM75 on (Humming); not verified without a GPU",
            ),
            4: "CPU; CUDA (Marlin, Machete)",
            8: "CUDA: symmetric Marlin, asymmetric Machete (SM90) or Humming; not "
            "verified without a GPU",
        },
    ),
    Target(
        "mlx",
        "mlx-vlm 0.7",
        "mlx",
        group_sizes=(128, 64, 32),
        whole_rows=False,
        extras=("head", "embeddings"),
    ),
    Target(
        "llama.cpp",
        "llama.cpp, GGUF",
        "llama.cpp",
        widths=(*GGML_BLOCKS, FULL),
        group_sizes=(GGML_BLOCK,),
        symmetries=(True,),
        whole_rows=False,
        extras=("head", "embeddings"),
        notes={bits: kind for bits, (kind, _) in GGML_BLOCKS.items()},
    ),
)
TARGETS: Mapping[str, Target] = {each.name: each for each in _EVERY}


def target_of(name: str) -> Target:
    """A target by its name.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in TARGETS:
        raise UnknownNameError("target", name, TARGETS)
    return TARGETS[name]
