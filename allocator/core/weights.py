"""Weights of linears by full name; an expert's is a slice of its block's experts.

A block keeps its experts as one parameter [experts, out, in]. Each is a linear of its
own here, named by the parameter and its number: `layers.0.mlp.experts.down_proj.17`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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
