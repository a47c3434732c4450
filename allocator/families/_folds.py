"""What a scale folds into: found by trying, on random weights, never by names alone.

A producer's outcome is scaled channel by channel, the columns of what reads it are
divided; only where that changes nothing, and each alone does, is it a fold.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from allocator.families._watching import alike

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from allocator.families._watching import Call, Watched

# numbers that differ by less than the first share are equal, by more than the second
# they are not
EQUAL, DIFFERENT = 1e-4, 1e-3
# powers of two: what scales by them rounds as it did
SCALES = (0.25, 0.5, 2.0, 4.0)


class Fold(NamedTuple):
    """A producer, by full name, and what it adds to its weight."""

    name: str
    added: float = 0.0


@dataclass(frozen=True)
class Trial:
    """A part of a model in which folds are tried.

    Attributes:
        seen: the model's forward pass.
        run: gives all that the part gives, for the weights that it has then.
        within: full names of the modules that may be producers.
    """

    seen: Watched
    run: Callable[[], Any]
    within: Collection[str]

    def fold(self, names: Sequence[str]) -> Fold | None:
        """What the scale of linears that read one input folds into; None: nothing."""
        calls = [self.seen.calls[name] for name in names]
        with torch.no_grad():
            plain = self.plain
            for producer in self._producers(calls):
                # a norm's weight may be what is added to 1
                for added in (0.0,) if _is_linear(producer.module) else (0.0, 1.0):
                    if self._holds(plain, producer.module, calls, added):
                        return Fold(producer.name, added)
        return None

    @cached_property
    def plain(self) -> Any:
        """What the part gives as it is."""
        return self.run()

    def _producers(self, readers: Sequence[Call]) -> list[Call]:
        """Modules that give as many channels as are read, the nearest first."""
        first = readers[0]
        names = {call.name for call in readers}
        found = [
            call
            for name in self.within
            if (call := self.seen.calls[name]).end
            and name not in names
            and call.end < first.begin
            and self.seen.weight(name) & first.given
            and _channels(call.module) == _width(first.module)
            and not self._stands_between(call, readers)
            and not self._feeds_others(call, readers)
        ]
        return sorted(found, key=lambda call: -call.end)

    def _stands_between(self, producer: Call, readers: Sequence[Call]) -> bool:
        """Whether what has weights changes what a producer gives, before it is read."""
        of = self.seen.weight(producer.name)
        return any(
            call.given & of and own & readers[0].given
            for call, own in self._weighted
            if call is not producer and call not in readers
        )

    @cached_property
    def _weighted(self) -> list[tuple[Call, int]]:
        """Calls of modules with weights of their own, and the bits of these."""
        found = []
        for name in self.within:
            call = self.seen.calls[name]
            own = self.seen.bit(*(f"{name}.{each}" for each in call.module._parameters))
            found += [(call, own)] if own else []
        return found

    def _feeds_others(self, producer: Call, readers: Sequence[Call]) -> bool:
        """Whether a linear is made of a producer, and not by way of its readers."""
        names = {call.name for call in readers}
        of = self.seen.weight(producer.name)
        through = self.seen.bit(*(f"{name}.weight" for name in names))
        return any(
            call.given & of and not call.given & through
            for name in self.within
            if name not in names and _is_linear((call := self.seen.calls[name]).module)
        )

    def _holds(
        self, plain: Any, producer: nn.Module, readers: Sequence[Call], added: float
    ) -> bool:
        linears = [call.module for call in readers]
        by = _scale(_width(linears[0]))
        with _scaled(producer, by, added):
            with _divided(linears, by):
                if not alike(self.run(), plain, EQUAL):
                    return False
            if not self._moves(plain):
                return False
        with _divided(linears, by):
            return self._moves(plain)

    def _moves(self, plain: Any) -> bool:
        return not alike(self.run(), plain, DIFFERENT)


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def _width(module: Any) -> int:
    return int(module.weight.shape[1])


def _channels(module: nn.Module) -> int | None:
    """How many channels a norm or linear gives, each by a weight or row of its own."""
    own = dict(module.named_parameters())
    weight = own.get("weight")
    if weight is None or own.keys() - {"weight", "bias"}:
        return None
    return len(weight) if weight.dim() == 1 or _is_linear(module) else None


def _scale(width: int) -> Tensor:
    generator = torch.Generator().manual_seed(width)
    picked = torch.randint(len(SCALES), (width,), generator=generator)
    return torch.tensor(SCALES)[picked]


@contextmanager
def _scaled(module: Any, by: Tensor, added: float) -> Iterator[None]:
    """Let a norm or linear give channels that are scaled."""
    weight = module.weight.data
    rows = by.view(-1, *[1] * (weight.dim() - 1))
    other = {"weight": (weight + added) * rows - added}
    if getattr(module, "bias", None) is not None:
        other["bias"] = module.bias.data * by
    with _exchanged([(module, other)]):
        yield


@contextmanager
def _divided(linears: Sequence[Any], by: Tensor) -> Iterator[None]:
    """Let linears divide the channels that they read."""
    other = [(linear, {"weight": linear.weight.data / by}) for linear in linears]
    with _exchanged(other):
        yield


@contextmanager
def _exchanged(other: Sequence[tuple[Any, dict[str, Tensor]]]) -> Iterator[None]:
    own = [
        (module._parameters[name], module._parameters[name].data)
        for module, values in other
        for name in values
    ]
    try:
        for module, values in other:
            for name, value in values.items():
                module._parameters[name].data = value
        yield
    finally:
        for parameter, data in own:
            parameter.data = data


@contextmanager
def folded(
    module: nn.Module, folds: Iterable[tuple[Sequence[str], Fold]]
) -> Iterator[None]:
    """Let all folds of a model hold at once.

    Args:
        module: the model.
        folds: linears that read one input, and their fold: all by full name.
    """
    with ExitStack() as stack:
        for names, fold in folds:
            linears = [module.get_submodule(name) for name in names]
            by = _scale(_width(linears[0]))
            producer = module.get_submodule(fold.name)
            stack.enter_context(_scaled(producer, by, fold.added))
            stack.enter_context(_divided(linears, by))
        yield
