"""What the blocks of a row are called with, one behind the other, as far as it holds.

A block that is caught passes its input on. What the next one is given is the very same
as long as nothing happens between them; where something does, the chain ends, and
whoever runs the blocks enters it anew with what they really gave.
"""

from __future__ import annotations

import inspect
from collections.abc import MutableMapping
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from allocator.families._calls import Calls, ReachedError, shared

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NEVER = -1  # a block that the model does not call
MORE = -1  # a block gives more than hidden states


class Chain(NamedTuple):
    """One call of a row, from one of its blocks on.

    A plain tuple, so that whoever moves a state finds the tensors in it.

    Attributes:
        calls: what blocks are called with beside the hidden states.
        begin: number of the first of these blocks.
        places: of each block from there on, its place in `calls`, or `NEVER`.
        key: what they call the hidden states; None where they come first.
        told: by argument, what blocks have put into a dictionary that all are given.
    """

    calls: Calls
    begin: int
    places: tuple[int, ...]
    key: str | None
    told: dict[str, dict[Any, Any]]

    def call(self, block: Any, number: int, hidden: Any) -> tuple[Any, Chain]:
        """What a block gives, called as transformers would; and what it has told."""
        at = self.places[number - self.begin]
        if at == NEVER:
            return hidden, self
        args, kwargs = self.calls.of(at)
        # a block writes into a copy: the state in front of it stays what it is
        own = {k: copy(v) for k, v in kwargs.items() if isinstance(v, MutableMapping)}
        for name, value in own.items():
            value.update(self.told.get(name, {}))
        before = {name: dict(value) for name, value in own.items()}
        named = {} if self.key is None else {self.key: hidden}
        first = (hidden,) if self.key is None else ()
        given = block(*first, *args, **named, **{**kwargs, **own})
        told = dict(self.told)
        for name, known in before.items():
            new = {k: v for k, v in own[name].items() if v is not known.get(k)}
            told[name] = {**told.get(name, {}), **new}
        return given, self._replace(told=told)


def first_of(given: Any) -> Any:
    """The hidden states in what a block gives."""
    return given[0] if isinstance(given, tuple | list) else given


def form_of(given: Any) -> int:
    """How a block gives hidden states: alone (0), or first of so many.

    `MORE` where it gives something beside them.
    """
    if not isinstance(given, tuple | list):
        return 0
    return len(given) if all(each is None for each in given[1:]) else MORE


def in_form(hidden: Any, form: int) -> Any:
    """Hidden states as a block gives them."""
    return (hidden, *[None] * (form - 1)) if form > 0 else hidden


@dataclass
class _Link:
    """A chain that is being caught; `kept` is what nobody writes into."""

    hidden: Any
    kept: Any
    key: str | None
    calls: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = field(
        default_factory=dict
    )
    end: int | None = None


@dataclass
class Catching:
    """Notes what the blocks of a row are called with.

    Attributes:
        blocks: all of the row.
        begin: number of the first that is caught.
        form: in which blocks give hidden states (`form_of`).
        several: whether the row may be called again: the pass goes on.
    """

    blocks: Sequence[Any]
    begin: int
    form: int
    several: bool
    links: list[_Link] = field(default_factory=list)

    def forwards(self) -> dict[int, Callable[..., Any]]:
        """What takes the place of each block's forward, by number."""

        def forward(number: int) -> Callable[..., Any]:
            return lambda *args, **kwargs: self._note(number, args, kwargs)

        return {n: forward(n) for n in range(self.begin, len(self.blocks))}

    def _note(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden, key, rest, named = _split(self.blocks[number], args, kwargs)
        link = self.links[-1] if self.links else None
        if link is None or number <= max(link.calls):
            link = _Link(hidden, _copy(hidden), key)
            self.links.append(link)
        elif link.end is None and not _same(hidden, link):
            self._end(link, number)
        if link.end is None:
            link.calls[number] = rest, named
            if number == len(self.blocks) - 1 or self.form == MORE:
                self._end(link, number + 1)
        return in_form(hidden, self.form)

    def _end(self, link: _Link, number: int) -> None:
        link.end = number
        if not self.several:
            raise ReachedError

    def chains(self, told: Sequence[dict[str, Any]]) -> tuple[list[Any], list[Chain]]:
        """Hidden states in front of the first block, and the chains from there."""
        rest = range(self.begin, self.end)
        found = []
        for n, link in enumerate(self.links):
            numbers = sorted(link.calls)
            calls = shared([link.calls[number] for number in numbers])
            of = {number: place for place, number in enumerate(numbers)}
            places = tuple(of.get(k, NEVER) for k in rest)
            own = told[n] if told else {}
            found.append(Chain(calls, self.begin, places, link.key, own))
        return [link.kept for link in self.links], found

    @property
    def end(self) -> int:
        """Number of the first block that has to be entered anew."""
        count = len(self.blocks)
        return min(count if k.end is None else k.end for k in self.links)

    def failed(self) -> bool:
        """End where a pass failed that went on with other values; False: it did not."""
        if not self.links:
            return False
        link = self.links[-1]
        if link.end is None:
            link.end = max(link.calls) + 1
        return True


def _split(
    block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, str | None, tuple[Any, ...], dict[str, Any]]:
    """Hidden states, what they are called (None: nothing), and the other arguments."""
    if args:
        return args[0], None, args[1:], kwargs
    known = inspect.signature(type(block).forward).parameters
    key = next(name for name in known if name in kwargs)
    return kwargs[key], key, (), {k: v for k, v in kwargs.items() if k != key}


def _copy(hidden: Any) -> Any:
    return hidden.clone() if hasattr(hidden, "clone") else hidden


def _same(hidden: Any, link: _Link) -> bool:
    """Whether a block is given what was passed on, unchanged in place too."""
    if hidden is not link.hidden:
        return False
    if not hasattr(hidden, "equal") or bool(hidden.equal(link.kept)):
        return True
    # what is no number equals nothing, itself neither
    return bool(hidden.allclose(link.kept, rtol=0, atol=0, equal_nan=True))
