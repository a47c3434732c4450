"""What takes the place of a module's forward in a pass that is cut."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

from allocator.families._calls import ReachedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def fed(
    outcomes: Sequence[Any],
    own: Callable[..., Any] | None = None,
    *,
    around: bool = False,
) -> Callable[..., Any]:
    """Gives what was given before, call by call.

    Args:
        outcomes: of each call.
        own: runs where there are more calls than outcomes.
        around: whether further calls begin with the first outcome again.
    """
    turn = count()

    def forward(*args: Any, **kwargs: Any) -> Any:
        number = next(turn)
        if around:
            number %= len(outcomes)
        if number >= len(outcomes):
            if own is None:
                raise ValueError(
                    f"a block is called {number + 1} times, and ran {len(outcomes)}"
                )
            return own(*args, **kwargs)
        return copied(outcomes[number])

    return forward


def noted(
    own: Callable[..., Any], name: str, made: dict[str, list[Any]]
) -> Callable[..., Any]:
    """A forward whose outcomes are noted, call by call, under a name."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = own(*args, **kwargs)
        made.setdefault(name, []).append(given)
        return given

    return forward


def stopped(*_: Any, **__: Any) -> Any:
    """The pass went far enough."""
    raise ReachedError


def copied(outcome: Any) -> Any:
    """An outcome that may be written into."""
    import torch
    from torch.utils._pytree import tree_map

    return tree_map(
        lambda value: value.clone() if isinstance(value, torch.Tensor) else value,
        outcome,
    )


@contextmanager
def gathered(head: Any, positions: Any) -> Iterator[None]:
    """Let an output head read some positions alone.

    Args:
        head: the module; None: there is none.
        positions: [batch, n], from the end below 0; None: all.

    Raises:
        ValueError: the head reads something else than [batch, tokens, width].
    """
    import torch

    if head is None or positions is None:
        yield
        return

    def gather(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0]
        if hidden.dim() != 3 or len(hidden) != len(positions):
            raise ValueError(
                f"the output head reads {tuple(hidden.shape)}, no tokens of each sample"
            )
        rows = torch.arange(len(hidden), device=hidden.device)[:, None]
        return (hidden[rows, positions.to(hidden.device)], *args[1:])

    # in front of whoever looks at what the head reads
    hook = head.register_forward_pre_hook(gather, prepend=True)
    try:
        yield
    finally:
        hook.remove()
