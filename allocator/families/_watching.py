"""A forward pass watched: what every module is given, and what that is made of.

Each parameter, and each input that somebody asks about, is a source. What an operation
gives comes from all sources of what it reads, whatever it does with them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from allocator.core.ports import State

# arguments with what was read before: a block that is run again is to read it anew
CACHES = ("past_key_values", "past_key_value", "cache", "cache_params")


# operations that read how large a tensor is, and none of its numbers
SIZES_ALONE = re.compile(r"aten::(new_.*|.*_like)$")

PRODUCTS = re.compile(r"aten::(mm|addmm|bmm|baddbmm|mv|addmv|_grouped_mm|linear)$")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)


@dataclass(frozen=True)
class Call:
    """The first call of a module.

    Attributes:
        name: the module's full name.
        module: it.
        args: what it was given.
        kwargs: what it was given by name.
        hidden: the first tensor of those.
        same: equal for calls that were given the very same tensor.
        given: sources of `hidden`, a bit each.
        begin: counts beginnings and ends of calls.
        outcome: what it gave.
        gave: sources of the first tensor of that.
        end: the same as `begin`.
    """

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    hidden: Tensor | None
    same: tuple[int, ...]
    given: int
    begin: int
    outcome: Any = None
    gave: int = 0
    end: int = 0

    def again(self, which: Tensor | None = None, other: Tensor | None = None) -> Any:
        """What it gives for the same arguments, or with one tensor in place of another.

        It is given copies: a block may write into what it reads.
        """

        def own(value: Any) -> Any:
            value = other if value is which and which is not None else value
            return value.clone() if isinstance(value, Tensor) else value

        named = {k: None if k in CACHES else v for k, v in self.kwargs.items()}
        args, kwargs = tree_map(own, (self.args, named))
        return self.module(*args, **kwargs)


@dataclass
class Watched:
    """What a forward pass was seen to do.

    Attributes:
        calls: first calls by the module's full name, in order of their beginning.
        outcome: what the model gives: logits.
        gave: sources of that.
        multiplied: sources that were matrices of products.
        bits: of each source, by the full name of a parameter, by the name of an input,
            or by the full name of a module whose outcome it is.
    """

    calls: dict[str, Call] = field(default_factory=dict)
    outcome: Any = None
    gave: int = 0
    multiplied: int = 0
    bits: dict[str, int] = field(default_factory=dict)

    def bit(self, *names: str) -> int:
        """The bits of sources; none for a name that is no source."""
        found = 0
        for name in names:
            found |= self.bits.get(name, 0)
        return found

    def is_stack(self, name: str) -> bool:
        """Whether a name is that of a parameter of experts, and not of a linear."""
        return name in self.bits

    def weight(self, name: str) -> int:
        """The bit of a linear's weight, or of a parameter of experts."""
        return self.bit(name if self.is_stack(name) else f"{name}.weight")

    def call(self, name: str) -> Call | None:
        """The call of a linear, or of the module of experts; None: never called."""
        return self.calls.get(name.rpartition(".")[0] if self.is_stack(name) else name)

    def sets(self, names: Sequence[str], types: Mapping[str, str]) -> list[list[str]]:
        """Called linears that are given the very same tensor, and are of one type.

        In the order in which they are called; parameters of experts one by one.
        """
        calls = [(call, name) for name in names if (call := self.call(name))]
        found: dict[Any, list[str]] = {}
        for call, name in sorted(calls, key=lambda pair: pair[0].begin):
            same = name if self.is_stack(name) else (call.same, types[name])
            found.setdefault(same, []).append(name)
        return list(found.values())


class Sources(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Knows of each tensor what it comes from: by its storage, which views share."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.of_storage: dict[int, int] = defaultdict(int)
        # sources that a product read as they are, or in another type
        self.multiplied = 0
        # an address is not used again as long as its tensor is there
        self.kept: list[Any] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # else torch imports its compiler, which takes longer than everything here
        return False

    def of(self, value: Any) -> int:
        found = 0
        for tensor in tensors_in(value):
            found |= self.of_storage.get(_storage(tensor), 0)
        return found

    def add(self, value: Any, bits: int) -> None:
        for tensor in tensors_in(value):
            self.of_storage[_storage(tensor)] |= bits

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        outcome = func(*args, **kwargs)
        self.kept.append(outcome)
        if PRODUCTS.match(func._schema.name):
            for each in map(self.of, tensors_in(args)):
                # of one source alone
                self.multiplied |= each if not each & (each - 1) else 0
        found = self.of(args) | self.of(kwargs)
        if found and not SIZES_ALONE.match(func._schema.name):
            self.add(outcome, found)
        return outcome


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def watched(
    module: nn.Module, state: State, blocks: Mapping[str, nn.Module]
) -> Watched:
    """Run a model once, and see what it does.

    Args:
        module: the model.
        state: what it is called with.
        blocks: modules whose outcomes are sources too, by full name.
    """
    noting = _Noting(blocks)
    for name, parameter in module.named_parameters():
        noting.source(name, parameter)
    # a matrix that goes by several names is one source
    for name, parameter in module.named_parameters(remove_duplicate=False):
        noting.seen.bits[name] = noting.sources.of(parameter)
    for name, value in state.items():
        noting.source(name, value)
    with ExitStack() as stack, torch.no_grad():
        for name, child in module.named_modules():
            if name:
                noting.watch(name, child, stack)
        stack.enter_context(noting.sources)
        noting.seen.outcome = logits_of(module, state)
    noting.seen.gave = noting.sources.of(noting.seen.outcome)
    noting.seen.multiplied = noting.sources.multiplied
    return noting.seen


class _Noting:
    """Notes calls of modules, as their hooks tell."""

    def __init__(self, blocks: Collection[str]) -> None:
        self.seen = Watched()
        self.sources = Sources()
        self.blocks = blocks
        self.ticks = count()

    def source(self, name: str, value: Any) -> None:
        """Have a name for whatever is made of something from now on."""
        self.seen.bits[name] = 1 << len(self.seen.bits)
        self.sources.add(value, self.seen.bits[name])

    def watch(self, name: str, module: nn.Module, stack: ExitStack) -> None:
        """Have a module tell of its calls until a stack is left."""

        def before(_: nn.Module, args: Any, kwargs: Any) -> None:
            self._begin(name, module, args, kwargs)

        def behind(_: nn.Module, args: Any, kwargs: Any, outcome: Any) -> None:
            del args, kwargs
            self._end(name, outcome)

        for handle in (
            module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(behind, with_kwargs=True),
        ):
            stack.callback(handle.remove)

    def _begin(self, name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        if name in self.seen.calls:
            return
        hidden = first_of((args, kwargs))
        self.seen.calls[name] = Call(
            name=name,
            module=module,
            args=args,
            kwargs=kwargs,
            hidden=hidden,
            same=_identity(hidden),
            given=self.sources.of(hidden),
            begin=next(self.ticks),
        )

    def _end(self, name: str, outcome: Any) -> None:
        call = self.seen.calls[name]
        if call.end:
            return
        if name in self.blocks:
            self.source(name, first_of(outcome))
            # the next one may write into it
            outcome = cloned(outcome)
        self.seen.calls[name] = replace(
            call,
            outcome=outcome,
            gave=self.sources.of(first_of(outcome)),
            end=next(self.ticks),
        )


def cloned(value: Any) -> Any:
    """The same with tensors of its own, in whatever they are nested."""
    return tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, value)


def _identity(tensor: Tensor | None) -> tuple[int, ...]:
    """Equal for views of the very same numbers."""
    if tensor is None:
        return ()
    place = (_storage(tensor), int(tensor.storage_offset()), tensor.numel())
    return (*place, tensor._version, tensor.shape[-1] if tensor.dim() else 0)


def first_of(value: Any) -> Tensor | None:
    """The first tensor of what a module gives."""
    return next(tensors_in(value), None)


def logits_of(module: nn.Module, state: State) -> Tensor:
    """What a model gives for a state, run as it stands."""
    with torch.no_grad():
        outcome = module(**state, use_cache=False)
    logits = getattr(outcome, "logits", None)
    found = first_of(logits if logits is not None else outcome)
    if found is None:
        raise TypeError("it gives no tensor")
    return found


def alike(found: Any, wanted: Any, share: float = 1e-4) -> bool:
    """Whether all numbers agree, up to a share of the largest."""
    pairs = list(zip(tensors_in(found), tensors_in(wanted), strict=True))
    floats = [(a, b) for a, b in pairs if b.is_floating_point()]
    return all(
        bool((a - b).abs().max() <= share * b.abs().max()) for a, b in floats if len(b)
    )


@contextmanager
def random_weights(module: nn.Module) -> Iterator[None]:
    """Give a model other weights for a while, none of which hides another.

    Biases and gates of zero, and norms of one, are random too; bounds without an end,
    as they are before training, bind.
    """
    generator = torch.Generator().manual_seed(0)
    parameters, buffers = list(module.parameters()), list(module.buffers())
    own = [(each, each.data) for each in (*parameters, *buffers)]
    try:
        for parameter in parameters:
            data = parameter.data
            noise = torch.randn(data.shape, generator=generator)
            if data.dim() == 2:
                parameter.data = noise / data.shape[1] ** 0.5
            elif data.dim() == 3 and min(data.shape) > 1:
                parameter.data = noise / data.shape[2] ** 0.5
            else:
                parameter.data = data + 0.2 * noise
        for buffer in buffers:
            if buffer.numel() == 1 and buffer.is_floating_point() and buffer.isinf():
                buffer.data = buffer.sign()
        yield
    finally:
        for each, data in own:
            each.data = data
