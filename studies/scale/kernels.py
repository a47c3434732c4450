"""How many kernels a method starts for each column: counted, not timed.

    python studies/scale/kernels.py

Operations that compute anything, on a CPU, of matrices of 256 rows: what twice as many
columns add, for each column. All six widths are made, as for a bank, or one, as for a
finalization. Rows beyond a chunk are another round. "In blocks" is as on an NVIDIA GPU,
where `quant.fused` takes a block of columns in one kernel: stands in for it here.
"""

from __future__ import annotations

import math
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from allocator.core.allocation import Scheme
from allocator.core.plugins import load
from quant.grid import LOW_WIDTHS
from quant.hessian import InputStatistics
from quant.methods import awq

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROWS, COLUMNS = 256, (512, 1024)
# they start nothing on a device
VIEWS = frozenset(
    {
        *("view", "_unsafe_view", "slice", "select", "t", "transpose", "permute"),
        *("expand", "unsqueeze", "squeeze", "as_strided", "reshape", "detach"),
        *("alias", "split", "unbind", "diagonal", "narrow", "_reshape_alias"),
        *("empty", "empty_strided", "empty_like", "unfold", "lift_fresh"),
    }
)
READ_BACK = "_local_scalar_dense"


class Counting(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Any = None,
    ) -> Any:
        del types
        name = func._schema.name.split("::")[1]
        self.found[name] += name not in VIEWS
        return func(*args, **(kwargs or {}))


class Blocks:
    """Stands in for `quant.fused`: starts something wherever that starts a kernel."""

    @staticmethod
    def width_of(columns: int, shared: int) -> int:
        """Columns of a block."""
        return 64 if shared >= columns else math.gcd(64, shared)

    @staticmethod
    def solve_block(columns: Any, steps: Any, *_: Any) -> None:
        """One kernel."""
        del columns
        steps.zero_()

    @staticmethod
    def rehearse(columns: Any, factor: Any, live: Any, grids: Any, *_: Any) -> Any:
        """One kernel."""
        del columns, factor, live
        return torch.zeros_like(grids[0])

    @staticmethod
    def settle_block(pull: Any, *_: Any) -> None:
        """One kernel."""
        pull.zero_()

    @staticmethod
    def smallest_first(matrix: Any, stops: Any) -> Any:
        """One kernel."""
        del stops
        return torch.arange(len(matrix))


def in_blocks(stack: ExitStack) -> None:
    """Let methods do as on a GPU from here on."""
    for module in ("ordering", "methods._columns", "methods._polish"):
        stack.enter_context(patch(f"quant.{module}.kernels_for", lambda _: Blocks))
    stack.enter_context(patch.object(awq, "CPU_ROWS", awq.GPU_ROWS))


def counts(run: Callable[[], object]) -> tuple[int, int]:
    """Kernels that something starts, and numbers that it reads back."""
    with Counting() as counting:
        run()
    back = counting.found.pop(READ_BACK, 0)
    return counting.found.total(), back


def a_column(name: str, widths: Sequence[int]) -> tuple[float, float]:
    """Kernels, and numbers read back, for each column."""
    method: Any = load("quant.methods", name)
    found = []
    for columns in COLUMNS:
        generator = torch.Generator().manual_seed(0)
        inputs = InputStatistics.empty(columns)
        inputs.add(torch.randn(2 * columns, columns, generator=generator))
        weights = [torch.randn(ROWS, columns, generator=generator)]

        def run(weights: Any = weights, inputs: Any = inputs) -> None:
            method.quantize(weights, inputs, Scheme(), widths, foldable=True)

        found.append(counts(run))
    few, many = found
    more = COLUMNS[1] - COLUMNS[0]
    return (many[0] - few[0]) / more, (many[1] - few[1]) / more


def main() -> None:
    """Print a line for each method."""
    for how in ("one by one", "in blocks"):
        with ExitStack() as stack:
            if how == "in blocks":
                in_blocks(stack)
            for name in ("gptq", "awq"):
                for widths in (LOW_WIDTHS, (4,)):
                    kernels, back = a_column(name, widths)
                    print(
                        f"{how}, {name} at {', '.join(map(str, widths))} bits: "
                        f"{kernels:.1f} kernels a column, {back:.2f} numbers read back"
                    )


if __name__ == "__main__":
    main()
