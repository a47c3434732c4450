"""How many kernels a method starts for each column: counted, not timed.

    python studies/scale/kernels.py

Operations that compute anything, on a CPU, of matrices of 256 rows: what twice as many
columns add, for each column. All six widths are made, as for a bank, or one, as for a
finalization. Rows beyond a chunk are another round.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from allocator.core.allocation import Scheme
from allocator.core.plugins import load
from quant.grid import LOW_WIDTHS
from quant.hessian import InputStatistics

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
    for name in ("gptq", "awq"):
        for widths in (LOW_WIDTHS, (4,)):
            kernels, back = a_column(name, widths)
            print(
                f"{name} at {', '.join(map(str, widths))} bits: {kernels:.1f} kernels "
                f"a column, {back:.2f} numbers read back"
            )


if __name__ == "__main__":
    main()
