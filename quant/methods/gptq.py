"""GPTQ (arXiv 2210.17323), the quietest inputs last, scales and codes then polished."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quant.methods._gptq import Gptq

if TYPE_CHECKING:
    from allocator.core.ports import Method

__all__ = ["PLUGIN", "Gptq"]

PLUGIN: Method = Gptq()
