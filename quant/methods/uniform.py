"""Round to nearest on min-max grids; looks at nothing but the weights.

Per tensor this is the published formula of the mixed-precision tables we compare with
(arXiv 2601.15287); per group or channel its range contains zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant.grid import check_widths, round_to_nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from allocator.core.allocation import Scheme
    from allocator.core.ports import Method
    from quant.grid import Cell
    from quant.hessian import InputStatistics


class Uniform:
    """Round to nearest."""

    version = 1
    stored = False

    def quantize(
        self,
        weights: Sequence[Tensor],
        inputs: InputStatistics | None,
        scheme: Scheme,
        widths: Sequence[int],
        *,
        foldable: bool = False,
    ) -> dict[int, list[Cell]]:
        """Cells of each width.

        Args:
            weights: matrices [out_i, in]; not modified.
            inputs: not used.
            scheme: group size and symmetry.
            widths: of 2, 3, 4, 5, 6, 8.
            foldable: not used.

        Raises:
            SpecError: another width.
        """
        del inputs, foldable  # rounding needs neither
        check_widths(widths)
        return {
            bits: [
                round_to_nearest(weight.detach(), scheme, bits) for weight in weights
            ]
            for bits in widths
        }


PLUGIN: Method = Uniform()
