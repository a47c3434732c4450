"""One pass over the calibration samples, stage by stage.

A stage runs on every batch while the inputs of its linears are watched, then its
statistics are handed over and the next stage starts from its outputs. Activations are
those of the full-precision model. Of a block's experts each is watched on the tokens
routed to it (`quant.routed`). Only the weights of the stage that runs are in
memory, so a model may be larger than that.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.weights import slice_of, weight_of
from quant.hessian import InputStatistics
from quant.pieces import enough_memory
from quant.pooling import Pool
from quant.routed import reading
from quant.streaming import in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from allocator.core.ports import Model, Siblings, Stage, State
    from quant.streaming import Spool


@dataclass(frozen=True)
class Observed:
    """A sibling set and the statistics of the input it reads.

    An expert's are its own; `pool` has those of all experts beside it.
    """

    siblings: Siblings
    inputs: InputStatistics
    pool: Pool | None = None

    def filled(self) -> Observed:
        """The same as it is quantized: an expert that saw too little has borrowed."""
        if self.pool is None:
            return self
        return Observed(self.siblings, self.pool.mixed(self.inputs), self.pool)


def calibrate(
    model: Model,
    states: Spool,
    wanted: Callable[[Stage], Sequence[Siblings]],
    stages: Sequence[Stage],
) -> Iterator[list[Observed]]:
    """Statistics of the sibling sets wanted of each stage, stage after stage.

    Args:
        model: the full-precision model; its weights are only read.
        states: what `model.inputs` gave for each batch; used up. Padding is not
            counted: positions that the mask a stage names leaves out.
        wanted: is asked for each stage before it runs.
        stages: the stages to run, the first ones of the model's.
    """
    for stage in stages:
        groups = wanted(stage)
        # an expert may borrow from those beside it: all of them are watched
        pools = {group.pool for group in groups} - {None}
        others = [s for s in stage.siblings if s.pool in pools and s not in groups]
        with in_memory(model.module, stage.uses, states.device):
            observed = [
                Observed(group, no_inputs(model.module, group.names[0]))
                for group in (*groups, *others)
            ]
            with enough_memory(f"running {stage.name} of the model", states.device):
                _run(model.module, stage, observed, states)
        if observed:
            pool_(observed)
            del observed[len(groups) :]
            yield observed


def _run(
    module: Any, stage: Stage, observed: Sequence[Observed], states: Spool
) -> None:
    """Run one stage on all batches; what it gives takes their place."""
    for number in range(len(states)):
        states[number] = watch(module, stage, observed, states[number])


def pool_(observed: list[Observed]) -> None:
    """Give experts the statistics of all of theirs."""
    each: dict[str, dict[str, InputStatistics]] = {}
    for one in observed:
        if one.siblings.pool is not None:
            each.setdefault(one.siblings.pool, {})[one.siblings.names[0]] = one.inputs
    # in the order of their numbers, whichever of them are wanted
    pools = {
        name: Pool.of(name, [own[f"{name}.{number}"] for number in range(len(own))])
        for name, own in each.items()
    }
    for at, one in enumerate(observed):
        if one.siblings.pool is not None:
            observed[at] = replace(one, pool=pools[one.siblings.pool])


def no_inputs(module: Any, name: str) -> InputStatistics:
    """Statistics of a linear, by full name, that has read nothing yet."""
    weight = weight_of(module, name)
    if slice_of(module, name) is None:
        layer = module.get_submodule(name)
        if isinstance(layer, torch.nn.Embedding):
            return InputStatistics.even(layer.embedding_dim, weight.device)
    return InputStatistics.empty(weight.shape[1], weight.device)


@torch.no_grad()
def watch(
    module: Any, stage: Stage, observed: Sequence[Observed], state: State
) -> State:
    """Run one stage on one batch, adding what its linears read."""
    takers = [(each.siblings, each.inputs.add) for each in observed]
    with listening(module, stage, takers, state):
        return stage.run(state)


def attended(x: Tensor, mask: Tensor) -> Tensor:
    """Without padding: what is read of the tokens of a mask [batch, n].

    Args:
        x: [batch, n, ...]; [batch x n, ...], as OPT's feed-forward linears read it, or
            the same behind dimensions of 1; or [batch, heads, n, ...], as latents of
            attention come. What else there is are features of pictures, which have no
            padding: all of them are read.
        mask: true for what is no padding.
    """
    if x.shape[:2] == mask.shape:
        return x[mask]
    if x.dim() > 3 and (len(x), x.shape[2]) == mask.shape:
        return x.transpose(1, 2)[mask]
    rows = x if len(x) == mask.numel() else x.flatten(0, -2)
    return rows[mask.flatten()] if len(rows) == mask.numel() else rows


@contextmanager
def listening(
    module: Any,
    stage: Stage,
    takers: Sequence[tuple[Siblings, Callable[[Tensor], object]]],
    state: State,
) -> Iterator[None]:
    """Hand over what sibling sets read while a stage runs on one batch.

    Args:
        module: the model.
        stage: what will run.
        takers: sets, and who is given their inputs: [n, in], or [..., in] where nothing
            is padded; a view of what the linear reads. Experts are given what is routed
            to them, and only where that is something.
        state: the batch; its masks leave padding out.
    """

    def hand(siblings: Siblings, take: Callable[[Tensor], object], x: Tensor) -> None:
        # embeddings look up what they are given
        if not x.is_floating_point():
            return
        mask = siblings.mask or stage.mask
        if mask is not None:
            x = attended(x, state[mask].bool())
        take(x)

    hooks = [
        module.get_submodule(siblings.names[0]).register_forward_pre_hook(
            lambda _, args, own=siblings, take=take: hand(own, take, args[0])
        )
        for siblings, take in takers
        if siblings.pool is None
    ]
    try:
        with reading(module, stage, [t for t in takers if t[0].pool], state):
            yield
    finally:
        for hook in hooks:
            hook.remove()
