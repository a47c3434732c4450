"""Blocks that are replaced for a while: caught, or fed with known outcomes.

Caught, they only note what they are called with; fed, they return what the real ones
gave. So what stands before, between and behind them runs by transformers' own code.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Calls(NamedTuple):
    """What each block of a row is called with beside the hidden states.

    Blocks that are called alike share an entry: masks are large. A plain tuple, so that
    whoever moves a state finds the tensors in it.
    """

    distinct: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...]
    of_block: tuple[int, ...]

    def call(self, block: Any, number: int, hidden: Any) -> Any:
        """Call a block as transformers would."""
        args, kwargs = self.distinct[self.of_block[number]]
        return block(hidden, *args, **kwargs)


class ReachedError(Exception):
    """What was looked for was called: no error, the pass went far enough."""


def caught(blocks: Sequence[Any], run: Callable[[], object]) -> tuple[Any, Calls]:
    """Run something up to its last block, the blocks passing their input on.

    Returns:
        What the first block is given, and how each block is called.
    """
    seen: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def note(*args: Any, **kwargs: Any) -> Any:
        if args:
            hidden, *rest = args
        else:
            hidden, rest = kwargs.pop("hidden_states"), []
        seen.append((hidden, tuple(rest), kwargs))
        if len(seen) == len(blocks):
            raise ReachedError
        return hidden

    with replaced(blocks, [note] * len(blocks)), suppress(ReachedError):
        run()
    return seen[0][0], shared([(args, kwargs) for _, args, kwargs in seen])


def shared(calls: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]) -> Calls:
    """How blocks are called one after another: positional and named arguments."""
    distinct: dict[tuple[Any, ...], int] = {}
    kept: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    of_block: list[int] = []
    for args, kwargs in calls:
        # equal only if they are the very same tensors
        key = (*map(id, args), *((name, id(value)) for name, value in kwargs.items()))
        if key not in distinct:
            distinct[key] = len(kept)
            kept.append((args, kwargs))
        of_block.append(distinct[key])
    return Calls(tuple(kept), tuple(of_block))


@contextmanager
def fed(blocks: Sequence[Any], outcomes: Mapping[int, Any]) -> Iterator[None]:
    """Let blocks return known outcomes, and those without one their input."""

    def feed(number: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if number in outcomes:
                return outcomes[number]
            return args[0] if args else kwargs["hidden_states"]

        return forward

    with replaced(blocks, [feed(number) for number in range(len(blocks))]):
        yield


@contextmanager
def replaced(
    blocks: Sequence[Any], forwards: Sequence[Callable[..., Any]]
) -> Iterator[None]:
    """Give blocks another forward for a while; their hooks still run."""
    try:
        for block, forward in zip(blocks, forwards, strict=True):
            block.forward = forward
        yield
    finally:
        for block in blocks:
            # the class's own comes back
            block.__dict__.pop("forward", None)
