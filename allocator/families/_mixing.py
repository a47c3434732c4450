"""Which linears of a block belong to what mixes tokens, and which do not.

Attention, convolutions and recurrent mixers read several tokens to give one; the rest
gives each token's outcome from that token alone. Told by changing one of them.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from allocator.families._watching import first_of, tensors_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.families._watching import Call

# a share of the largest change: below, it is rounding
FAINT = 1e-4
ATTENTION, FEED_FORWARD, ALL = "attn", "ff", "all"


def types_of(
    block: Call, calls: Mapping[str, Call], linears: Sequence[str]
) -> dict[str, str]:
    """Of each linear of a block, the type that it is: `attn`, `ff` or, untold, `all`.

    Args:
        block: a call of the block.
        calls: those within it, by full name.
        linears: full names of its linears, and of its parameters of experts.
    """
    parts = _parts(block.name, calls, linears)
    mixing = {part: mixes(calls[part]) for part in parts if part not in linears}
    if True not in mixing.values():
        if mixes(block) is False:
            return dict.fromkeys(linears, FEED_FORWARD)
        return _by_linears(block, linears)
    found: dict[str, str] = {}
    everything = set(mixing) == set(parts) and all(mixing.values())
    for part, own in parts.items():
        within = _parts(part, calls, own) if everything else {}
        if any(x not in linears and mixes(calls[x]) for x in within):
            found |= types_of(calls[part], calls, own)
        else:
            kinds = {True: ATTENTION, False: FEED_FORWARD, None: ALL}
            found |= dict.fromkeys(own, kinds[mixing.get(part, False)])
    return found


def _parts(
    block: str, calls: Mapping[str, Call], linears: Sequence[str]
) -> dict[str, list[str]]:
    """The modules right below a block that are called, and the linears in each."""
    parts: dict[str, list[str]] = {}
    for name in linears:
        steps = name.removeprefix(f"{block}.").split(".")
        paths = (".".join((block, *steps[: n + 1])) for n in range(len(steps)))
        part = next((path for path in paths if path in calls), name)
        parts.setdefault(part, []).append(name)
    return parts


def mixes(call: Call) -> bool | None:
    """Whether a module mixes tokens; None where that cannot be told."""
    hidden = call.hidden
    if hidden is None or hidden.dim() < 2 or not hidden.is_floating_point():
        return None
    try:
        plain = first_of(call.again())
        # some may be padding
        moved = [_moved(call, hidden, at, plain) for at in _tokens(hidden)]
        others = [
            _moved(call, x, _tokens(x)[0] if _alike(x, hidden) else None, plain)
            for x in _others(call, hidden)
        ]
    except Exception:
        return None
    # tokens that attend to others do not have to mix each other
    if any(moved) or any(others):
        return True
    single = hidden.shape[-2] == 1
    return None if single or all(each is None for each in moved) else False


def _others(call: Call, hidden: Tensor) -> list[Tensor]:
    """Arguments that may be further tokens, keys or values: of as many samples."""
    return [
        x
        for x in tensors_in((call.args, call.kwargs))
        if x is not hidden
        and x.is_floating_point()
        and x.dim() >= hidden.dim()
        and (hidden.dim() == 2 or len(x) == len(hidden))
    ]


def _alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape[:-1] == other.shape[:-1]


def _tokens(tensor: Tensor) -> list[int]:
    """Rows of two tokens of the first sample, with others before and behind them."""
    tokens = tensor.shape[-2]
    return [tokens // 2, (3 * tokens) // 4]


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])


def _changed(tensor: Tensor, at: int | None) -> Tensor:
    """The same with other numbers in one row, or in all of the first sample."""
    rows = _rows(tensor).clone()
    where = slice(tensor.shape[-2]) if at is None else slice(at, at + 1)
    rows[where] = -2 * rows[where].flip(-1) + rows.std()
    return rows.view(tensor.shape)


def _moved(
    call: Call, which: Tensor, at: int | None, plain: Tensor | None
) -> bool | None:
    """Whether an outcome moves at further tokens with one of an argument.

    None where it does not move, or where nobody knows which tokens it has. Of as many
    tokens each may go with one; of any other number, what is read is a mixture.
    """
    moved = first_of(call.again(which, _changed(which, at)))
    if moved is None or plain is None or moved.shape != plain.shape:
        return None
    rows = _far(moved, plain)
    alike = len(rows) == which.numel() // which.shape[-1]
    if not rows.any() or (not alike and which is call.hidden):
        return None
    return bool(rows.sum() > 1) or not alike


def _far(moved: Tensor, plain: Tensor) -> Tensor:
    """Which rows differ by more than rounding: [rows]."""
    change = _rows((moved - plain).abs()).amax(1)
    return change > FAINT * max(float(change.max()), float(plain.abs().max()) * FAINT)


def _by_linears(block: Call, linears: Sequence[str]) -> dict[str, str]:
    """Types of linears that hang in a block directly, by what stands between them."""
    prefix = f"{block.name}."
    found = {
        name: block.module.get_submodule(name.removeprefix(prefix))
        for name in linears
        if _is_linear(block.module, name.removeprefix(prefix))
    }
    if len(found) < len(linears):
        return dict.fromkeys(linears, ALL)
    try:
        reached = {name: _reached(block, found, name) for name in found}
    except Exception:
        return dict.fromkeys(linears, ALL)
    mixers = _mixers(reached)
    if not mixers:
        return dict.fromkeys(linears, ALL)
    # what feeds attention alone, and does not read what it gives, is of it
    behind = {x for name in mixers for x in reached[name]} - mixers
    mixers |= {x for x in reached if x not in behind and mixers & reached[x].keys()}
    return {name: ATTENTION if name in mixers else FEED_FORWARD for name in linears}


def _mixers(reached: Mapping[str, Mapping[str, bool]]) -> set[str]:
    """Linears between which tokens mix, and no further linear stands."""
    return {
        each
        for name, others in reached.items()
        for other, mixed in others.items()
        if mixed and not any(other in reached[x] for x in others if x != other)
        for each in (name, other)
    }


def _is_linear(module: nn.Module, name: str) -> bool:
    try:
        return isinstance(module.get_submodule(name), nn.Linear)
    except AttributeError:
        return False


def _reached(
    block: Call, linears: Mapping[str, nn.Module], source: str
) -> dict[str, bool]:
    """Linears whose input moves with one token of a linear's outcome.

    Returns:
        By name, whether it moves at other tokens too.
    """
    seen: dict[str, Tensor] = {}

    def change(module: Any, args: Any, outcome: Tensor) -> Tensor:
        del module, args
        return _changed(outcome, _tokens(outcome)[0])

    def note(name: str) -> Any:
        def hook(module: Any, args: Any) -> None:
            del module
            seen[name] = args[0].detach().clone()

        return hook

    with ExitStack() as stack, torch.no_grad():
        for name, linear in linears.items():
            handle = linear.register_forward_pre_hook(note(name))
            stack.callback(handle.remove)
        block.again()
        plain = dict(seen)
        handle = linears[source].register_forward_hook(change)
        stack.callback(handle.remove)
        block.again()
    found = {}
    for name, moved in seen.items():
        if name != source and not torch.equal(moved, plain[name]):
            found[name] = int(_far(moved, plain[name]).sum()) > 1
    return found
