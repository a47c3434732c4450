"""What linears read and how much their outputs matter: one backward pass, by stages.

Activations are kept between stages alone; those within a stage are computed again, with
gradients, when the pass comes to it (Chen et al., arXiv 1604.06174).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from allocator.core.weights import weight_of
from quant.calibration import attended
from quant.routed import experts_of, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from torch import Tensor

    from allocator.core.ports import Model, Siblings, Stage, State

    Noted = tuple[tuple[str, Siblings], Tensor, Tensor]
    Seed = Callable[[State], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Passed:
    """What passed through a linear in a batch, without padding.

    Attributes:
        name: the linear's full name.
        read: [n, in] its inputs, or [n] the rows that embeddings looked up.
        gradient: [n, out] of what it gave: 0 where nothing reads that.

    An expert's n are the tokens that were routed to it, which may be none.
    """

    name: str
    read: Tensor
    gradient: Tensor


def passed(
    model: Model, state: State, names: Collection[str], seed: Seed
) -> Iterator[Passed]:
    """What passes through linears, from the last stage to the first.

    Args:
        model: its weights are only read.
        state: what `model.inputs` gave for a batch.
        names: full names of the linears that are looked at.
        seed: gives an output of the model, of the state behind it, and the gradient
            that is sent back from there, of the same shape.
    """
    stages = model.stages()
    # what was made in inference mode may not be part of a graph
    states = [_mapped(torch.clone, state)]
    with torch.no_grad():
        for stage in stages[:-1]:
            states.append(stage.run(states[-1]))
    sent: list[Tensor | None] | None = None
    for stage in reversed(stages):
        before = _mapped(_leaf, states.pop())
        with torch.enable_grad(), _noted(model.module, stage, names, before) as noted:
            after = stage.run(before)
            pairs = [seed(after)] if sent is None else _paired(_floats(after), sent)
        inputs, outputs = _floats(before), [given for *_, given in noted]
        found = _gradients(pairs, [*inputs, *outputs])
        sent = found[: len(inputs)]
        for each, gradient in zip(noted, found[len(inputs) :], strict=True):
            (name, siblings), read, given = each
            own = torch.zeros_like(given) if gradient is None else gradient
            # what experts read is no padding
            mask = None if siblings.pool else siblings.mask or stage.mask
            yield _attended(name, read, own, before, mask)
        yield from _unrouted(model.module, stage, names, noted)


@contextmanager
def _noted(
    module: Any, stage: Stage, names: Collection[str], state: State
) -> Iterator[list[Noted]]:
    """Notes what the linears of a stage read and give while it runs."""
    noted: list[Noted] = []

    def note(own: tuple[str, Siblings]) -> Callable[[Any, Any, Tensor], None]:
        def hook(_: Any, args: Any, given: Tensor) -> None:
            if not given.requires_grad:
                given.requires_grad_()
            noted.append((own, args[0].detach(), given))

        return hook

    own = [(n, each) for each in stage.siblings for n in each.names if n in names]
    routed = {name: each for name, each in own if each.pool is not None}

    def see(name: str, x: Tensor, run: Callable[[], Tensor]) -> Tensor:
        given = run()
        if name in routed:
            note((name, routed[name]))(None, (x,), given)
        return given

    hooks = [
        module.get_submodule(each[0]).register_forward_hook(note(each))
        for each in own
        if each[1].pool is None
    ]
    watched = experts_of(module, routed.values())
    try:
        with replaced(stage, watched, see, state):
            yield noted
    finally:
        for hook in hooks:
            hook.remove()


def _unrouted(
    module: Any, stage: Stage, names: Collection[str], noted: Sequence[Noted]
) -> Iterator[Passed]:
    """Experts of a stage that no token of the batch was routed to."""
    seen = {name for (name, _), *_ in noted}
    for siblings in stage.siblings:
        [name, *_] = siblings.names
        if siblings.pool is not None and name in names and name not in seen:
            weight = weight_of(module, name).detach()
            outputs, inputs = weight.shape
            empty = weight.new_empty(0)
            yield Passed(name, empty.view(0, inputs), empty.view(0, outputs))


def _attended(
    name: str, read: Tensor, gradient: Tensor, state: State, mask: str | None
) -> Passed:
    """Without positions that are padding, or whose numbers are none."""
    is_looked_up = not read.is_floating_point()
    if mask is not None:
        real = state[mask].bool()
        read, gradient = attended(read, real), attended(gradient, real)
    read = read.flatten() if is_looked_up else read.flatten(0, -2)
    gradient = gradient.flatten(0, -2)
    kept = gradient.isfinite().all(1)
    if not is_looked_up:
        kept &= read.isfinite().all(1)
    return Passed(name, read[kept], gradient[kept])


def _leaf(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def _mapped(change: Callable[[Tensor], Tensor], state: State) -> State:
    changed: State = tree_map(
        lambda value: change(value) if isinstance(value, torch.Tensor) else value, state
    )
    return changed


def _floats(state: State) -> list[Tensor]:
    leaves = tree_leaves(state)
    tensors = (value for value in leaves if isinstance(value, torch.Tensor))
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def _paired(
    given: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> list[tuple[Tensor, Tensor]]:
    """Outputs of a stage that hang on its inputs, with their gradients."""
    pairs = zip(given, gradients, strict=True)
    return [(out, own) for out, own in pairs if own is not None and out.requires_grad]


def _gradients(
    pairs: Sequence[tuple[Tensor, Tensor]], wanted: Sequence[Tensor]
) -> list[Tensor | None]:
    """Gradients of what is wanted; None where nothing hangs on it."""
    if not pairs or not wanted:
        return [None] * len(wanted)
    outputs, sent = zip(*pairs, strict=True)
    return list(torch.autograd.grad(outputs, wanted, sent, allow_unused=True))
