"""What a checkpoint will hold, in place of what a loaded stage has."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.weights import key_of, slice_of, weight_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor


@dataclass
class Placed:
    """Parameters of a loaded stage that hold other values.

    Attributes:
        module: the model.
        parameters: its own, by full name; tied ones by each of theirs.
        loaded: identities of what is loaded (`quant.streaming.in_memory`).
        own: what was replaced, with its values at full precision, by identity.
    """

    module: Any
    parameters: Mapping[str, Any]
    loaded: frozenset[int] = frozenset()
    own: dict[int, tuple[Any, Tensor]] = field(default_factory=dict)
    _keys: dict[str, str] = field(default_factory=dict, init=False)

    @staticmethod
    def of(module: Any) -> Placed:
        """Nothing in place of what a model has."""
        return Placed(module, dict(module.named_parameters(remove_duplicate=False)))

    def key(self, name: str) -> str:
        """Full name of the parameter that holds a linear's weight."""
        if name not in self._keys:
            self._keys[name] = key_of(self.module, name)
        return self._keys[name]

    def has(self, key: str) -> bool:
        """Whether a parameter of this full name is loaded."""
        return id(self.parameters[key]) in self.loaded

    def put(self, key: str, value: Tensor) -> None:
        """Put a value in the place of a loaded parameter."""
        parameter = self.parameters[key]
        self.own.setdefault(id(parameter), (parameter, parameter.data))
        parameter.data = value.to(parameter)

    def put_weight(self, name: str, value: Tensor) -> None:
        """Put a value [out, in] in the place of a linear's weight, which is loaded.

        That of an expert goes into a copy of all of them: what is stored stays.
        """
        key = self.key(name)
        if slice_of(self.module, name) is None:
            self.put(key, value)
            return
        parameter = self.parameters[key]
        if id(parameter) not in self.own:
            self.own[id(parameter)] = parameter, parameter.data
            parameter.data = parameter.data.clone()
        weight_of(self.module, name).copy_(value)

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
