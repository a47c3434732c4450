"""Blocks that are replaced for a while: caught, or fed with known outcomes.

Caught, they only note what they are called with; fed, they return what the real ones
gave. So what stands before, between and behind them runs by transformers' own code.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import contextmanager, suppress
from copy import copy
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

# what blocks leave for later ones: under the name of the dictionary that all of them
# are called with, what is in it
Left = dict[str, dict[Any, Any]]


class Calls(NamedTuple):
    """What each block of a row is called with beside the hidden states.

    Blocks share what they are called with: masks are large. A plain tuple, so that
    whoever moves a state finds the tensors in it.

    Attributes:
        values: each of them once.
        of_block: for each block the places in `values` of its arguments, those with a
            name apart.
    """

    values: tuple[Any, ...]
    of_block: tuple[tuple[tuple[int, ...], dict[str, int]], ...]

    def of(self, number: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a block is called with: arguments, and those with a name."""
        args, kwargs = self.of_block[number]
        named = {name: self.values[place] for name, place in kwargs.items()}
        return tuple(self.values[place] for place in args), named

    def call(
        self, block: Any, number: int, hidden: Any, left: Mapping[str, Any]
    ) -> tuple[Any, Left]:
        """Call a block as transformers would.

        Dictionaries that were empty before any block ran are what blocks leave keys
        and values in for later ones. Each call is given its own: a stage may run again.

        Args:
            block: of the row.
            number: its own.
            hidden: what it reads.
            left: what the blocks in front of it have left.

        Returns:
            What it gives, and what is left behind it.
        """
        args, kwargs = self.of(number)
        own = {
            name: copy(value)
            for name, value in kwargs.items()
            if isinstance(value, MutableMapping) and not value
        }
        for name, value in own.items():
            value.update(left.get(name, {}))
        given = block(hidden, *args, **{**kwargs, **own})
        return given, {name: dict(value) for name, value in own.items() if value}


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
    """How blocks are called: with arguments, and with those that have a name."""
    values: list[Any] = []
    known: dict[int, int] = {}

    def place(value: Any) -> int:
        # equal only if they are the very same tensors
        if id(value) not in known:
            known[id(value)] = len(values)
            values.append(value)
        return known[id(value)]

    of_block = tuple(
        (tuple(map(place, args)), {name: place(each) for name, each in kwargs.items()})
        for args, kwargs in calls
    )
    return Calls(tuple(values), of_block)


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


def read_behind(
    blocks: Sequence[Any], number: int, outcome: Any, run: Callable[[], object]
) -> Any:
    """What the next block reads, where something stands between them.

    Args:
        blocks: of the row.
        number: of the block in front, which is not the last one.
        outcome: what that one gave.
        run: runs the row.
    """
    seen: list[Any] = []

    def passing(place: int) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = args[0] if args else kwargs["hidden_states"]
            if place <= number:
                return outcome if place == number else hidden
            seen.append(hidden)
            raise ReachedError

        return forward

    forwards = [passing(place) for place in range(len(blocks))]
    with replaced(blocks, forwards), suppress(ReachedError):
        run()
    return seen[0]


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
