"""Weights of linears by full name; an expert's is a slice of its block's experts.

A block keeps its experts as one parameter [experts, out, in]. Each is a linear of its
own here, named by the parameter and its number: `layers.0.mlp.experts.down_proj.17`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# marks modules whose experts are stored as [experts, in, out]
TRANSPOSED = "is_transposed"


class Slice(NamedTuple):
    """Which expert of which parameter (by full name) a weight is."""

    stack: str
    number: int


def slice_of(module: Any, name: str) -> Slice | None:
    """The slice that an expert's weight is; None for a linear of its own."""
    stack, _, number = name.rpartition(".")
    owner, _, last = stack.rpartition(".")
    if not number.isdigit() or last not in module.get_submodule(owner)._parameters:
        return None
    return Slice(stack, int(number))


def key_of(module: Any, name: str) -> str:
    """Full name of the parameter that holds a linear's weight."""
    found = slice_of(module, name)
    return f"{name}.weight" if found is None else found.stack


def name_of_weight(module: Any, name: str) -> str:
    """Full name of a linear's weight: an expert's is its own."""
    return f"{name}.weight" if slice_of(module, name) is None else name


def tensor_of(module: Any, name: str) -> Any:
    """A parameter, or the weight of an expert, by its full name."""
    if slice_of(module, name) is None:
        return module.get_parameter(name)
    return weight_of(module, name)


def beside(module: Any, linears: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """All that holds no weight of some linears, by full name; tied ones once.

    Parameters; of one that holds weights of experts, each of its other experts.
    """
    held: dict[int, set[int]] = {}
    for name in linears:
        found = slice_of(module, name)
        parameter = module.get_parameter(key_of(module, name))
        numbers = held.setdefault(id(parameter), set())
        if found is not None:
            numbers.add(found.number)
    for name, parameter in module.named_parameters():
        taken = held.get(id(parameter))
        if taken is None:
            yield name, parameter
        elif taken:
            for number in sorted(set(range(len(parameter))) - taken):
                yield f"{name}.{number}", tensor_of(module, f"{name}.{number}")


def weight_of(module: Any, name: str) -> Any:
    """A linear's weight: [out, in], a view of its parameter; what is put in is there.

    Args:
        module: the whole model.
        name: full name of the linear.
    """
    found = slice_of(module, name)
    if found is None:
        return module.get_submodule(name).weight
    owner = module.get_submodule(found.stack.rpartition(".")[0])
    own = module.get_parameter(found.stack)[found.number]
    return own.T if getattr(owner, TRANSPOSED, False) else own
