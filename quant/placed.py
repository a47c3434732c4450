"""What a checkpoint will hold, in place of what a loaded stage has."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor


@dataclass
class Placed:
    """Parameters of a loaded stage that hold other values.

    Attributes:
        parameters: those of the model, by full name; tied ones by each of theirs.
        loaded: identities of what is loaded (`quant.streaming.in_memory`).
        own: what was replaced, with its values at full precision, by identity.
    """

    parameters: Mapping[str, Any]
    loaded: frozenset[int] = frozenset()
    own: dict[int, tuple[Any, Tensor]] = field(default_factory=dict)

    def has(self, key: str) -> bool:
        """Whether a parameter of this full name is loaded."""
        return id(self.parameters[key]) in self.loaded

    def put(self, key: str, value: Tensor) -> None:
        """Put a value in the place of a loaded parameter."""
        parameter = self.parameters[key]
        self.own.setdefault(id(parameter), (parameter, parameter.data))
        parameter.data = value.to(parameter)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Full precision in all of the stage, for a while."""
        now = [(parameter, parameter.data) for parameter, _ in self.own.values()]
        try:
            for parameter, own in self.own.values():
                parameter.data = own
            yield
        finally:
            for parameter, data in now:
                parameter.data = data
