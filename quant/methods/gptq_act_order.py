"""GPTQ with act-order: the loudest inputs are rounded first, while most can follow.

All grids are fitted before the loop, group by group as the matrix has them, so cells
have the same form as without (auto-gptq's `desc_act` with `static_groups`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant.methods._gptq import Gptq

if TYPE_CHECKING:
    from allocator.core.ports import Method

PLUGIN: Method = Gptq(act_order=True)
