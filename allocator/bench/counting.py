"""Count what passes through a loaded model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allocator.core.weights import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allocator.core.cost import Cost
    from allocator.core.spec import Component, Linear


def count_tokens(module: Any, linears: Iterable[Linear], cost: Cost) -> None:
    """Count the rows through the first linear of each component, from now on.

    Where that is an expert, those through its block's experts.

    Args:
        module: the model.
        linears: all that are in groups, in the order in which they run.
        cost: is added to.
    """
    first: dict[Component, Linear] = {}
    for linear in linears:
        first.setdefault(linear.component, linear)
    for component, linear in first.items():

        def count(
            _: Any, given: tuple[Any, ...], component: Component = component
        ) -> None:
            cost.tokens[component] += given[0].shape[:-1].numel()

        owner = key_of(module, linear.name).rpartition(".")[0]
        module.get_submodule(owner).register_forward_pre_hook(count)
