"""Parameters at full precision, while others are in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.memory import host_bytes, share
from allocator.core.weights import tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# models of up to so many bytes are copied where they are
COPIED_BYTES = 2**30
# of the memory of this machine, for copies of a model that is on a CUDA device
PINNED_SHARE = 0.25


class Originals:
    """Where parameters at full precision come from again, bit by bit.

    A small model is copied where it is, parameter by parameter (and expert by expert)
    as they change. A large
    one on a CUDA device is copied into the host's memory, pinned, where that is much
    larger; any other is read again from its checkpoint's files.
    """

    def __init__(self, module: Any, mapped: Callable[[], Any] | None = None) -> None:
        self._copies: dict[str, Tensor] = {}
        self._mapped = mapped
        self._stored: Any = None
        parameters = list(module.parameters())
        size = sum(each.nbytes for each in parameters)
        self._copy = _copy_of(size, {each.device.type for each in parameters})
        if self._copy is None and mapped is None:
            # nothing to read them from
            self._copy = _beside

    def keep(self, name: str, parameter: Tensor) -> None:
        """Told of a parameter at full precision that will change."""
        if self._copy is not None:
            if name not in self._copies:
                self._copies[name] = self._copy(parameter.detach())
        elif self._stored is None:
            assert self._mapped is not None
            # the files as they are now: later ones may take their place
            self._stored = self._mapped()

    def give_back(self, name: str, parameter: Tensor) -> None:
        """Put its values at full precision back into a parameter."""
        value = (
            tensor_of(self._stored, name) if self._copy is None else self._copies[name]
        )
        parameter.copy_(value, non_blocking=True)


def _copy_of(size: int, devices: set[str]) -> Callable[[Tensor], Tensor] | None:
    """How parameters of a model of some bytes are copied; None: not at all."""
    on_cuda = devices == {"cuda"}
    if size <= (COPIED_BYTES if on_cuda else share(1 / 8, COPIED_BYTES)):
        return _beside
    if on_cuda and size <= PINNED_SHARE * host_bytes():
        from quant.cuda import pinned_copy

        return pinned_copy
    return None


def _beside(value: Tensor) -> Tensor:
    return value.clone()
