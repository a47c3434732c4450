"""One pass over the calibration samples, stage by stage.

A stage runs on every batch while the inputs of its linears are watched, then its
statistics are handed over and the next stage starts from its outputs. Activations are
those of the full-precision model. Only the weights of the stage that runs are in
memory, so a model may be larger than that.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from quant.hessian import InputStatistics
from quant.streaming import in_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from allocator.core.ports import Model, Siblings, Stage, State
    from quant.streaming import Spool


@dataclass(frozen=True)
class Observed:
    """A sibling set and the statistics of the input it reads."""

    siblings: Siblings
    inputs: InputStatistics


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
        with in_memory(model.module, stage.uses, states.device):
            observed = [
                Observed(group, no_inputs(model.module.get_submodule(group.names[0])))
                for group in groups
            ]
            for number in range(len(states)):
                states[number] = watch(model.module, stage, observed, states[number])
        if observed:
            yield observed


def no_inputs(layer: Any) -> InputStatistics:
    """Statistics of a layer that has read nothing yet."""
    if isinstance(layer, torch.nn.Embedding):
        return InputStatistics.even(layer.embedding_dim, layer.weight.device)
    return InputStatistics.empty(layer.in_features, layer.weight.device)


@torch.no_grad()
def watch(
    module: Any, stage: Stage, observed: Sequence[Observed], state: State
) -> State:
    """Run one stage on one batch, adding what its linears read."""
    takers = [(each.siblings, each.inputs.add) for each in observed]
    with listening(module, stage, takers, state):
        return stage.run(state)


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
            is padded; a view of what the linear reads.
        state: the batch; its masks leave padding out.
    """

    def hand(siblings: Siblings, take: Callable[[Tensor], object], x: Tensor) -> None:
        # embeddings look up what they are given
        if not x.is_floating_point():
            return
        mask = siblings.mask or stage.mask
        if mask is not None:
            attended = state[mask].bool()
            # OPT flattens batch and tokens before its feed-forward linears
            x = x[attended if x.dim() == 3 else attended.flatten()]
        take(x)

    hooks = [
        module.get_submodule(siblings.names[0]).register_forward_pre_hook(
            lambda _, args, own=siblings, take=take: hand(own, take, args[0])
        )
        for siblings, take in takers
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
