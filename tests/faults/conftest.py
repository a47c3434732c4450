from __future__ import annotations

from tests.quant.conftest import loaded, recipe

# fixtures, found by their names
__all__ = ["loaded", "recipe"]
