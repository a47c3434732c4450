"""What a block's experts read: the tokens routed to each, by the model's own code.

A block's experts are one module, called with all tokens and with the experts of each;
their weights are stacks of matrices (`allocator.core.weights`). However that module
multiplies, its class has a plain forward beside it that takes one expert after another:
this runs once more, on tokens without padding, and whatever it multiplies by a slice of
a stack is what that expert's linear reads.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from allocator.core.errors import ModelError
from allocator.core.weights import TRANSPOSED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from allocator.core.ports import Siblings, Stage, State

    # is told a linear's name and what it reads [n, in], and how to get what it gives
    See = Callable[[str, Tensor, Callable[[], Tensor]], Tensor]

# products of an input and a matrix, as torch calls them
PRODUCTS = ("linear", "matmul", "__matmul__", "mm")


class Routed(NamedTuple):
    """What a module of experts is called with, without padding.

    A plain tuple, so that whoever moves or measures a state finds the tensors in it.

    Attributes:
        hidden: [n, in] of each token.
        experts: [n, k] of each token; a number that no expert has stands for none.
        shares: [n, k] what they count.
    """

    hidden: Tensor
    experts: Tensor
    shares: Tensor

    def tokens(self, experts: int) -> list[int]:
        """How many tokens each of so many experts has."""
        known = self.experts[(self.experts >= 0) & (self.experts < experts)]
        counts: list[int] = torch.bincount(known, minlength=experts).tolist()
        return counts

    def to(self, number: int) -> Routed:
        """The tokens of one expert, in order, and no other expert."""
        token, place = torch.where(self.experts == number)
        return Routed(
            self.hidden[token],
            self.experts[token, place].unsqueeze(1),
            self.shares[token, place].unsqueeze(1),
        )


@dataclass(frozen=True)
class Experts:
    """A module of experts, by its full name, and those of its stacks to look at."""

    module: Any
    name: str
    stacks: tuple[str, ...]

    @property
    def owner(self) -> Any:
        """The module that holds the stacks."""
        return self.module.get_submodule(self.name)

    def routed(self, args: Any, kwargs: Any, attended: Tensor | None) -> Routed:
        """What a call of the module hands over, but for padding.

        Args:
            args: of the call.
            kwargs: of the call.
            attended: [batch, tokens], true for what is no padding; None: all is.

        Raises:
            ModelError: it is not called with tokens, experts and shares, or nobody can
                tell which of the tokens are padding.
        """
        found = self._arguments(args, kwargs)
        rows = [each.reshape(-1, each.shape[-1]) for each in found]
        if attended is None:
            return Routed(*rows)
        if any(len(each) != attended.numel() for each in rows):
            raise ModelError(
                f"{self.name} is called with {len(rows[0])} tokens where the batch has "
                f"{attended.numel()}: which of them are padding is not known"
            )
        return Routed(*(each[attended.flatten()] for each in rows))

    def _arguments(self, args: Any, kwargs: Any) -> list[Tensor]:
        """Tokens, their experts and the shares of these, as a call gives them."""
        given = inspect.signature(self._plain).bind(self.owner, *args, **kwargs)
        found = list(given.arguments.values())[1:4]
        if len(found) < 3 or not all(isinstance(x, torch.Tensor) for x in found):
            raise ModelError(
                f"{self.name} is not called with tokens, their experts and the shares "
                "of these: what each expert reads is not known"
            )
        return found

    def instead(self, args: Any, kwargs: Any, attended: Tensor | None, see: See) -> Any:
        """What a call gives, by the plain forward, each product shown to somebody.

        It is 0 at padding, which nothing reads.
        """
        given = self.run(self.routed(args, kwargs, attended), see)
        if attended is not None:
            rows = given
            given = rows.new_zeros(attended.numel(), rows.shape[-1])
            given[attended.flatten()] = rows
        return given.reshape(self._arguments(args, kwargs)[0].shape)

    def run(self, routed: Routed, see: See) -> Tensor:
        """What the experts give, [n, out], each product shown to somebody.

        Raises:
            ModelError: products are not to be seen, or read stacks the other way round.
        """
        products = _Products(self, see)
        with products:
            given: Tensor = self._plain(self.owner, *routed)
        experts = len(self.module.get_parameter(self.stacks[0]))
        unseen = set(self.stacks) - products.seen
        if unseen and any(routed.tokens(experts)):
            raise ModelError(
                f"no product with {min(unseen)} is to be seen in the code of "
                f"{type(self.owner).__name__}: what each expert reads is not known"
            )
        return given

    def read(self, routed: Routed, stack: str, number: int) -> Tensor:
        """What one expert's linear reads, in the order of the tokens: [n, in]."""
        found: list[Tensor] = []

        def see(name: str, x: Tensor, run: Callable[[], Tensor]) -> Tensor:
            if name == f"{stack}.{number}":
                found.append(x)
                raise _ReadError
            return run()

        own = routed.to(number)
        if not len(own.hidden):
            features = self.module.get_parameter(stack).shape[self._reading + 1]
            return routed.hidden.new_empty(0, features)
        with suppress(_ReadError):
            self.run(own, see)
        return found[0]

    @property
    def _plain(self) -> Callable[..., Tensor]:
        """The forward that its class was written with, however calls are dispatched."""
        plain: Callable[..., Tensor] = inspect.unwrap(type(self.owner).forward)
        return plain

    @property
    def _reading(self) -> int:
        """Which dimension of a matrix in a stack is read."""
        return 0 if getattr(self.owner, TRANSPOSED, False) else 1

    def found(self, matrix: Tensor, reading: int) -> str | None:
        """The linear that a matrix belongs to, if it is a slice of one of the stacks.

        Raises:
            ModelError: it is, and another of its dimensions is read.
        """
        for stack in self.stacks:
            whole = self.module.get_parameter(stack)
            size = whole.stride(0) * whole.element_size()
            number, off = divmod(matrix.data_ptr() - whole.data_ptr(), size)
            if off or not 0 <= number < len(whole) or matrix.dim() != 2:
                continue
            if matrix.stride(reading) != whole.stride(self._reading + 1):
                raise ModelError(
                    f"{type(self.owner).__name__} reads the matrices of {stack} the "
                    "other way round"
                )
            return f"{stack}.{number}"
        return None


class _ReadError(BaseException):
    """What was asked for has been read: no error, nothing behind it is needed."""


class _Products(TorchFunctionMode):
    """Shows products with slices of stacks to somebody, who gives their outcome."""

    def __init__(self, experts: Experts, see: See) -> None:
        super().__init__()
        self.experts, self.see = experts, see
        self.seen: set[str] = set()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        called = getattr(function, "__name__", "")
        if called in PRODUCTS and len(args) > 1:
            reading = 1 if called == "linear" else 0
            name = self.experts.found(args[1], reading)
            if name is not None:
                self.seen.add(name.rpartition(".")[0])
                return self.see(name, args[0], lambda: function(*args, **kwargs))
        return function(*args, **kwargs)


def experts_of(module: Any, sets: Iterable[Siblings]) -> list[Experts]:
    """The modules of experts that some sibling sets belong to, in order."""
    stacks: dict[str, dict[str, None]] = {}
    for siblings in sets:
        if siblings.pool is not None:
            owner = siblings.pool.rpartition(".")[0]
            stacks.setdefault(owner, {})[siblings.pool] = None
    return [Experts(module, owner, tuple(own)) for owner, own in stacks.items()]


@contextmanager
def routing(
    stage: Stage, takers: Mapping[Experts, Callable[[Routed], object]], state: State
) -> Iterator[None]:
    """Hand over what modules of experts are called with while a stage runs.

    Args:
        stage: what will run.
        takers: is given each call of a module, padding left out.
        state: the batch; the mask of the experts' sets is that of their stage.
    """
    attended = None if stage.mask is None else state[stage.mask].bool()

    def hook(experts: Experts, take: Callable[[Routed], object]) -> Any:
        def before(_: Any, args: Any, kwargs: Any) -> None:
            with torch.no_grad():
                take(experts.routed(args, kwargs, attended))

        return experts.owner.register_forward_pre_hook(before, with_kwargs=True)

    hooks = [hook(experts, take) for experts, take in takers.items()]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


@contextmanager
def reading(
    module: Any,
    stage: Stage,
    takers: Sequence[tuple[Siblings, Callable[[Tensor], object]]],
    state: State,
) -> Iterator[None]:
    """Hand over what experts read while a stage runs; see `quant.calibration`.

    What the stage gives is not touched: experts run a second time to be watched.

    Args:
        module: the model.
        stage: what will run.
        takers: sets of one expert each, and who is given what it reads: [n, in].
        state: the batch.
    """
    take = {siblings.names[0]: own for siblings, own in takers}

    def see(name: str, x: Tensor, run: Callable[[], Tensor]) -> Tensor:
        if name in take:
            take[name](x)
        return run()

    def run(experts: Experts) -> Callable[[Routed], Tensor]:
        return lambda routed: experts.run(routed, see)

    watched = experts_of(module, (siblings for siblings, _ in takers))
    with routing(stage, {each: run(each) for each in watched}, state):
        yield


@contextmanager
def replaced(
    stage: Stage, watched: Iterable[Experts], see: See, state: State
) -> Iterator[None]:
    """Run experts by their plain forward, each product shown to somebody.

    What a stage gives is then the same up to rounding, but for padding.

    Args:
        stage: what will run.
        watched: the modules whose forward is replaced meanwhile.
        see: is told each product.
        state: the batch; the mask of the experts' sets is that of their stage.
    """
    attended = None if stage.mask is None else state[stage.mask].bool()

    def forward(experts: Experts) -> Callable[..., Any]:
        return lambda *args, **kwargs: experts.instead(args, kwargs, attended, see)

    owners = {experts: experts.owner for experts in watched}
    try:
        for experts, owner in owners.items():
            owner.forward = forward(experts)
        yield
    finally:
        for owner in owners.values():
            # the class's own comes back
            owner.__dict__.pop("forward", None)
