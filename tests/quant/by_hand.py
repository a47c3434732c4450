"""Quantization in sequence, written down as simply as can be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.allocation import Scheme
from allocator.core.weights import weight_of
from quant.drift import Drift
from quant.hessian import InputStatistics

if TYPE_CHECKING:
    from allocator.core.ports import Model, State
    from quant.assignment import Assignment


def by_hand(
    model: Model, exact: Model, wanted: Assignment, state: State
) -> dict[str, Any]:
    """The same with all weights in memory and the whole model run for every set.

    `exact` is the model at full precision.
    """
    cells: dict[str, Any] = {}
    for stage in model.stages():
        for siblings in stage.siblings:
            names = [name for name in siblings.names if name in wanted.keys]
            if not names:
                continue
            read, before, inputs = reads(
                model, exact, siblings, stage, state, corrected=wanted.corrected
            )
            weights = [weight_of(exact.module, n).detach() for n in siblings.names]
            if wanted.corrected:
                drift = Drift.empty(read.shape[-1])
                drift.add(before, read)
                weights = drift.corrected(weights)
            for name in names:
                choice = wanted.choices[name]
                assert choice.method
                foldable = siblings.fold is not None
                found = wanted.recipe.methods[choice.method].quantize(
                    weights, inputs, Scheme(), [choice.bits], foldable=foldable
                )[choice.bits][siblings.names.index(name)]
                cells[name] = found
            touched = fold(model, siblings, names, cells)
            for name in touched:
                weight_of(model.module, name).data.copy_(effective(cells[name]))
    return cells


def reads(
    model: Model,
    exact: Model,
    siblings: Any,
    stage: Any,
    state: State,
    *,
    corrected: bool,
) -> tuple[torch.Tensor, torch.Tensor, InputStatistics]:
    """What a set reads now and at full precision, and the statistics of the former."""
    if siblings.pool is None:
        now, before = (inputs_of(m, siblings, stage, state) for m in (model, exact))
        inputs = InputStatistics.empty(now.shape[-1])
        inputs.add(now)
        return now, before, inputs
    now, before = (called(m, siblings, stage, state)[0] for m in (model, exact))
    # where anything is compared, full precision says which tokens an expert reads
    _, index = called(exact if corrected else model, siblings, stage, state)
    each = [
        of_expert(model, f"{siblings.pool}.{number}", now, index)
        for number in range(len(model.module.get_parameter(siblings.pool)))
    ]
    own = int(siblings.names[0].rpartition(".")[2])
    inputs, total = (InputStatistics.empty(each[0].shape[-1]) for _ in range(2))
    inputs.add(each[own])
    for rows in each:
        total.add(rows)
    share = min(1.0, len(each[own]) / (2 * each[own].shape[-1]))
    inputs.hessian = torch.lerp(total.hessian, inputs.hessian, share)
    inputs.mean_abs = torch.lerp(total.mean_abs, inputs.mean_abs, share)
    return each[own], of_expert(exact, siblings.names[0], before, index), inputs


def called(
    model: Model, siblings: Any, stage: Any, state: State
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that a set's experts are called with, padding left out; of each which.

    The experts of each token: [n, k].
    """
    owner = model.module.get_submodule(siblings.pool.rpartition(".")[0])
    ((hidden, index, _),), now = calls(model, owner, stage, state)
    if stage.mask is None:
        return hidden, index
    real = now[stage.mask].bool().flatten()
    return hidden[real], index[real]


@torch.no_grad()
def of_expert(
    model: Model, name: str, hidden: torch.Tensor, index: torch.Tensor
) -> torch.Tensor:
    """What an expert's linear reads of all tokens: [n, in]."""
    stack, _, number = name.rpartition(".")
    owner, _, kind = stack.rpartition(".")
    own = hidden[(index == int(number)).any(1)]
    if kind == "gate_up_proj":
        return own
    first = weight_of(model.module, f"{owner}.gate_up_proj.{number}")
    gated: torch.Tensor = model.module.get_submodule(owner)._apply_gate(own @ first.T)
    return gated


def fold(model: Model, siblings: Any, names: list[str], cells: dict[str, Any]) -> Any:
    """Divide by the scale of AWQ what comes before; names of all cells that change."""
    scale = cells[names[0]].channel_scale
    if scale is None:
        return names
    for name in names:
        cells[name] = replace(cells[name], channel_scale=None)
    before, scale = model.module.get_submodule(siblings.fold), scale.float()
    for name in {*siblings.names} - {*names}:
        weight = model.module.get_submodule(name).weight
        weight.data.copy_((weight * scale).half())
    low = siblings.fold in cells
    for key, parameter in before.named_parameters(recurse=False):
        if key == "bias" or not low:
            by = scale if parameter.dim() == 1 else scale[:, None]
            added = siblings.added if key == "weight" else 0.0
            parameter.data.copy_(((parameter + added) / by - added).half())
    if not low:
        return names
    cell = cells[siblings.fold]
    by_row = (cell.scale.float() / scale[:, None]).half()
    cells[siblings.fold] = replace(cell, scale=by_row)
    return [*names, siblings.fold]


def inputs_of(model: Model, siblings: Any, stage: Any, state: State) -> torch.Tensor:
    """What a sibling set reads, padding left out: [n, in]."""
    first = model.module.get_submodule(siblings.names[0])
    ((read, *_),), now = calls(model, first, stage, state)
    mask = siblings.mask or stage.mask
    rows: torch.Tensor = read.reshape(-1, first.in_features)
    return rows if mask is None else rows[now[mask].bool().flatten()]


@torch.no_grad()
def calls(
    model: Model, child: Any, stage: Any, state: State
) -> tuple[list[Any], State]:
    """Arguments of all calls of a part in a stage, and the state in front of that."""
    now = dict(state)
    seen: list[Any] = []
    for each in model.stages():
        if each.name == stage.name:
            break
        now = each.run(now)
    # in stages before it may be called on something else
    handle = child.register_forward_pre_hook(lambda _, args: seen.append(args))
    each.run(now)
    handle.remove()
    return seen, now


def effective(cell: Any) -> torch.Tensor:
    zero: Any = 2 ** (cell.bits - 1) if cell.zero is None else cell.zero.float()
    columns = torch.arange(cell.codes.shape[1]) // cell.columns
    scale: torch.Tensor = cell.scale.float()[:, columns]
    whole: torch.Tensor = (cell.codes.float() - zero[:, columns]) * scale
    return whole if cell.channel_scale is None else whole / cell.channel_scale.float()
