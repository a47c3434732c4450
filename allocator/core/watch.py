"""Who is told how far long work is."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


class Tell(Protocol):
    """Is told steps done and steps in all of a phase, and what there is to note."""

    def __call__(self, done: int, total: int, note: str = "", /) -> object:
        """Tell."""


class Watch(Protocol):
    """Is told how far a search is."""

    def phase(self, name: str) -> AbstractContextManager[Tell]:
        """Open a phase; its `Tell` is told steps done and steps in all."""

    def say(self, text: str) -> None:
        """Say one line."""


@dataclass(frozen=True)
class Forwarding:
    """Stands before a watch, which is told what this one does not change."""

    watch: Watch

    def phase(self, name: str) -> AbstractContextManager[Tell]:
        """Open a phase."""
        return self.watch.phase(name)

    def say(self, text: str) -> None:
        """Say one line."""
        self.watch.say(text)


@dataclass(frozen=True)
class Heard(Forwarding):
    """Remembers what was said."""

    said: set[str] = field(default_factory=set)

    def say(self, text: str) -> None:
        """Say one line."""
        self.said.add(text)
        self.watch.say(text)


class Silent:
    """A watch that tells nobody."""

    def phase(self, name: str) -> AbstractContextManager[Tell]:
        """Open a phase that is not shown."""
        del name
        return nullcontext(lambda done, total, note="": None)  # noqa: ARG005

    def say(self, text: str) -> None:
        """Drop one line."""
