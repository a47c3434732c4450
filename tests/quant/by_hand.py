"""Quantization in sequence, written down as simply as can be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.allocation import Scheme
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
    full = dict(exact.module.named_parameters())
    for stage in model.stages():
        for siblings in stage.siblings:
            names = [name for name in siblings.names if name in wanted.keys]
            if not names:
                continue
            read = inputs_of(model, siblings, stage, state)
            weights = [full[f"{name}.weight"].detach() for name in siblings.names]
            inputs = InputStatistics.empty(read.shape[-1])
            inputs.add(read)
            if wanted.corrected:
                drift = Drift.empty(read.shape[-1])
                drift.add(inputs_of(exact, siblings, stage, state), read)
                weights = drift.corrected(weights)
            for name in names:
                choice = wanted.choices[name]
                foldable = siblings.fold is not None
                found = wanted.recipe.methods[choice.method].quantize(
                    weights, inputs, Scheme(), [choice.bits], foldable=foldable
                )[choice.bits][siblings.names.index(name)]
                cells[name] = found
            touched = fold(model, siblings, names, cells)
            for name in touched:
                weight = model.module.get_submodule(name).weight
                weight.data.copy_(effective(cells[name]))
    return cells


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
            added = 1.0 if type(before).__name__.startswith("Gemma") else 0.0
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
    seen: list[torch.Tensor] = []

    def keep(_: Any, args: Any) -> None:
        rows, mask = args[0].reshape(-1, first.in_features), siblings.mask or stage.mask
        seen.append(rows if mask is None else rows[now[mask].bool().flatten()])

    handle = first.register_forward_pre_hook(keep)
    now = dict(state)
    with torch.no_grad():
        for each in model.stages():
            now = each.run(now)
            # nothing behind it changes what the set reads
            if seen:
                break
    handle.remove()
    (read,) = seen
    return read


def effective(cell: Any) -> torch.Tensor:
    zero = 2 ** (cell.bits - 1) if cell.zero is None else cell.zero.float()
    columns = torch.arange(cell.codes.shape[1]) // cell.columns
    whole = (cell.codes.float() - zero[:, columns]) * cell.scale.float()[:, columns]
    return whole if cell.channel_scale is None else whole / cell.channel_scale.float()
