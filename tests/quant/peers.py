"""Quantizers that others wrote, loaded bare and driven without pytest.

Their packages import, when they start, names that transformers 5 has dropped. Their
algorithms need none of it, so a submodule is imported under a parent that is empty.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from allocator.core.allocation import Scheme

DAMP = 0.01


@contextmanager
def standing_in(modules: Mapping[str, types.ModuleType]) -> Iterator[None]:
    """Put modules in the place of others, for as long as something is imported."""
    # what else is imported meanwhile stays, so the table is not restored as a whole
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def load_bare(
    package: str, *names: str, others: Mapping[str, types.ModuleType] | None = None
) -> types.ModuleType | None:
    """A package with some of its submodules, its `__init__` left out.

    To be called once for each package: a module that is imported already would not be
    set as an attribute of a second parent.

    Args:
        package: such as "auto_gptq".
        names: submodules, such as "quantization.gptq".
        others: modules to put in the place of what these import.

    Returns:
        The package, or None where it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None:
        return None
    bare = types.ModuleType(package)
    bare.__path__ = list(found.submodule_search_locations or ())
    with standing_in({package: bare, **(others or {})}), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            import_module(f"{package}.{name}")
    return bare


@cache
def load_auto_gptq() -> types.ModuleType | None:
    """auto-gptq 0.7.1: its solver and its packer."""
    return load_bare(
        "auto_gptq", "quantization.gptq", "nn_modules.qlinear.qlinear_cuda"
    )


@dataclass(frozen=True, eq=False)
class Solved:
    """What auto-gptq made of a matrix.

    Attributes:
        weight: [out, in], dequantized, in the dtype of the Hessian.
        codes: [out, in], same dtype.
        scale: [out, n_groups], same dtype.
        zero: same shape, in code units.
    """

    weight: torch.Tensor
    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor


@dataclass(frozen=True)
class AutoGptq:
    """auto-gptq's `GPTQ.fasterquant` with our words for its settings.

    Attributes:
        package: what `load_auto_gptq` gave.
        scheme: group size and symmetry; no grid per tensor.
        static: fit all groups before the loop.
        act_order: columns by falling diagonal of the Hessian.
        half: round its scales to fp16 as they are fitted, as ours are; it keeps float32
            and lets the packer round them, after the codes are chosen.
    """

    package: types.ModuleType
    scheme: Scheme
    static: bool = False
    act_order: bool = False
    half: bool = True

    def solve(self, weight: torch.Tensor, hessian: torch.Tensor, bits: int) -> Solved:
        """Quantize [out, in] weights under a Hessian [in, in]; neither is modified.

        The dtype of the Hessian is that of all arithmetic.
        """
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight.data = weight.to(hessian.dtype, copy=True)
        gptq = self.package.quantization.gptq.GPTQ(layer)
        gptq.quantizer.configure(bits, perchannel=True, sym=self.scheme.symmetric)
        # what add_batch adds up: 2/n sum of x x^T, n counted in batches
        gptq.H, gptq.nsamples = hessian.clone(), 1
        group = self.scheme.group_size
        assert group != "tensor"
        with self._patched(hessian.dtype), torch.no_grad():
            scale, zero, group_of = gptq.fasterquant(
                # its groups inside a block are fitted to weights that lack the
                # corrections of that block; with a block per group they have them
                blocksize=group if isinstance(group, int) else 128,
                percdamp=DAMP,
                group_size=group if isinstance(group, int) else -1,
                actorder=self.act_order,
                static_groups=self.static and isinstance(group, int),
            )
        solved, index = layer.weight.data, group_of.long()
        codes = torch.round(solved / scale[:, index]) + zero[:, index]
        return Solved(solved, codes, scale, zero)

    @contextmanager
    def _patched(self, dtype: torch.dtype) -> Iterator[None]:
        with ExitStack() as stack:
            if dtype == torch.float64:
                # it turns weights into single precision, and nothing else
                stack.enter_context(
                    patch.object(torch.Tensor, "float", torch.Tensor.double)
                )
            if not torch.cuda.is_available():
                # it waits for a GPU that may not be there
                stack.enter_context(
                    patch.object(torch.cuda, "synchronize", lambda: None)
                )
            if self.half:
                quantizer = self.package.quantization.quantizer.Quantizer
                rounding = _rounding_scales(quantizer.find_params)
                stack.enter_context(patch.object(quantizer, "find_params", rounding))
            yield


def _rounding_scales(find: Any) -> Any:
    """`Quantizer.find_params` that rounds scales to fp16, before the zero-point."""

    def find_params(self: Any, x: torch.Tensor, weight: bool = False) -> None:
        find(self, x, weight=weight)
        self.scale = self.scale.half().float()
        if not self.sym:
            low = x.amin(1, keepdim=True).clamp(max=0)
            self.zero = torch.round(-low / self.scale)

    return find_params
