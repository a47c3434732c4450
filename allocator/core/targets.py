"""Runtimes that load what is exported, and what each of them can hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError, UnknownNameError
from allocator.core.layouts import FULL as FULL
from allocator.core.layouts import GGML_BLOCK as GGML_BLOCK
from allocator.core.layouts import GGML_TYPES as GGML_TYPES
from allocator.core.layouts import LAYOUTS as LAYOUTS
from allocator.core.layouts import ggml_type as ggml_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# widths that fill a block type of ggml
GGML_WIDTHS = {4: "Q4_0", 5: "Q5_0", 8: "Q8_0"}


# transformers 5.24, as it was tried: it refuses packed experts, or, asked to unpack
# them, reads all by the grid of one layer and says nothing, and reads no zero-points
# (integrations/compressed_tensors.py, `get_experts_scheme`)
PACKED_EXPERTS = (
    "transformers keeps a block's experts as one parameter, which reads nothing packed"
)


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
        tied: whether also where these are one matrix.
        scales: the type that scales always have; None: that of the checkpoint.
        notes: what is to be known of a width.
        because: why it reads no other grids.
        experts: why it takes no model with experts; "": it does.
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
    tied: bool = False
    scales: str | None = None
    notes: Mapping[int, str] = field(default_factory=dict)
    because: str = ""
    experts: str = ""

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
        """That it is this target that asks for it, and why."""
        return f" (--target {self.name}: {self.because})" if self.because else ""


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


_EVERY: tuple[Target, ...] = (
    Target(
        "none",
        "no runtime in particular",
        "none",
        group_sizes=(128, 64, 32, "channel", "tensor"),
        extras=("head", "embeddings"),
        tied=True,
    ),
    Target(
        "transformers",
        "transformers with compressed-tensors 0.17",
        "transformers",
        extras=("head", "embeddings"),
        experts=PACKED_EXPERTS,
        because="pack-quantized has a scale for each group or row",
    ),
    # kernels: vllm 0.32, model_executor/kernels/linear/mixed_precision; divisors as
    # cpu.py has them
    Target(
        "vllm",
        "vLLM 0.32, run with LLaVA, Qwen2.5-VL and Qwen3-VL",
        "vllm",
        inputs=32,
        outputs=32,
        fused=(("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")),
        notes={
            **dict.fromkeys(
                (2, 3, 5, 6),
                "CUDA from SM75 on (Humming); not verified without a GPU",
            ),
            4: "CPU (bfloat16 on AMX: activations of 8 bits, unless "
            "VLLM_CPU_INT4_W4A8=0); CUDA (Marlin, Machete)",
            8: "CUDA: symmetric Marlin, asymmetric Machete (SM90) or Humming; not "
            "verified without a GPU",
        },
        because="pack-quantized has a scale for each group or row",
    ),
    Target(
        "mlx",
        "mlx-vlm 0.7",
        "mlx",
        group_sizes=(128, 64, 32),
        whole_rows=False,
        extras=("head", "embeddings"),
        tied=True,
        because="MLX has kernels for groups of 128, 64 and 32",
    ),
    Target(
        "llama.cpp",
        "llama.cpp, GGUF",
        "llama.cpp",
        widths=(*GGML_WIDTHS, FULL),
        group_sizes=(GGML_BLOCK,),
        symmetries=(True,),
        whole_rows=False,
        extras=("head", "embeddings"),
        tied=True,
        scales="float16",
        notes=GGML_WIDTHS,
        because="Q4_0, Q5_0 and Q8_0 are the blocks that hold such grids exactly",
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
