"""Scales of AWQ folded into what comes before: grids as every runtime reads them.

A cell with a `channel_scale` s holds W * s and reads x / s. Nothing that loads a
checkpoint divides its inputs, so the module whose output the linear reads
(`Siblings.fold`) has to give x / s: the weight and bias of a norm, or the rows and bias
of a linear, are divided by s. Below 16 bits the rows of a linear are divided where its
grid has its scales; a `channel_scale` of its own has to do with its inputs alone. What
reads the same input and has no cell is multiplied by s.

All of it is rounded to the 16-bit type of a checkpoint, once for each fold, and a scale
that this type cannot hold does not fold.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from allocator.core.errors import ModelError
from quant.grid import ENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from torch import Tensor

    from allocator.core.ports import Siblings, Stage
    from quant.grid import Cell

# root mean square of the relative error that a fold may leave: bf16 rounds by up to
# 2**-9; numbers below 2**-14 in fp16, and gains near zero of a norm that adds 1 to its
# weight, keep fewer digits
LOSS = 2.0**-8
# numbers this much smaller than the mean count as if they were not
FAINT = 2.0**-10


class FoldError(ModelError):
    """A scale that what comes before cannot absorb."""


@dataclass(eq=False)
class Folds:
    """What scales have made of a model, fold by fold.

    Attributes:
        parameters: those of the model at full precision, by full name.
        dtype: the 16-bit type in which what is no code is stored.
        changed: parameters that are others now, by full name, of that type.
        rows: what the rows of linears below 16 bits are divided by: [out] each.
        columns: what the columns of linears below 16 bits are multiplied by: [in] each.
    """

    parameters: Mapping[str, Tensor]
    dtype: torch.dtype
    changed: dict[str, Tensor] = field(default_factory=dict)
    rows: dict[str, Tensor] = field(default_factory=dict)
    columns: dict[str, Tensor] = field(default_factory=dict)

    def add(self, siblings: Siblings, scale: Tensor, low: Collection[str]) -> None:
        """Fold the scale [in] of a sibling set; nothing is changed if it fails.

        Args:
            siblings: the set.
            scale: positive.
            low: all linears that have a cell.

        Raises:
            FoldError: nothing stands before the set, or a number is beyond the type.
        """
        fold, scale = siblings.fold, scale.detach().cpu().float()
        new: dict[str, Tensor] = {}
        for name in siblings.names:
            if name not in low:
                weight = self._now(f"{name}.weight")
                new[f"{name}.weight"] = self._stored(name, weight * scale, 1 / scale)
        keys = [f"{fold}.{part}" for part in ("weight", "bias")]
        if fold is None or keys[0] not in self.parameters:
            raise FoldError(
                f"no scale of {siblings.names[0]} folds: no weight stands before it"
            )
        for key in keys if fold not in low else keys[1:]:
            if key in self.parameters:
                added = siblings.added if key == keys[0] else 0.0
                value = self._now(key) + added
                by = scale.view(-1, *[1] * (value.dim() - 1))
                new[key] = self._stored(fold, value / by - added, by, added)
        self.changed |= new
        self.columns |= {name: scale for name in siblings.names if name in low}
        if fold in low:
            self.rows[fold] = scale

    def weight(self, name: str) -> Tensor:
        """What the cell of a linear stands for, scales folded: [out, in] float32."""
        weight = self.parameters[f"{name}.weight"].detach().float()
        if name in self.columns:
            weight = weight * self.columns[name].to(weight.device)
        if name in self.rows:
            weight = weight / self.rows[name].to(weight.device).unsqueeze(1)
        return weight

    def cell(self, name: str, cell: Cell) -> Cell:
        """The cell of a linear without a scale, its rows divided by what folds into it.

        Raises:
            FoldError: the scales of its grid would leave their type.
        """
        bare = replace(cell, channel_scale=None)
        return divided(name, bare, self.rows[name]) if name in self.rows else bare

    def _now(self, name: str) -> Tensor:
        value = self.changed.get(name, self.parameters[name])
        return value.detach().cpu().float()

    def _stored(
        self, name: str, exact: Tensor, unit: Tensor, added: float = 0.0
    ) -> Tensor:
        return _rounded(name, exact, unit, self.dtype, added)


def folded(
    stages: Iterable[Stage],
    low: Collection[str],
    scale_of: Callable[[str], Tensor | None],
    parameters: Mapping[str, Tensor],
    dtype: torch.dtype,
) -> Folds:
    """Fold the scales of all cells of a model.

    Args:
        stages: the model's, in execution order.
        low: linears that have a cell, by full name.
        scale_of: is asked for the `channel_scale` of each of those.
        parameters: those of the model at full precision, by full name.
        dtype: the 16-bit type in which what is no code is stored.

    Raises:
        FoldError: siblings have scales of their own, or one does not fold.
    """
    folds = Folds(parameters, dtype)
    for stage in stages:
        for siblings in stage.siblings:
            scales = {n: scale_of(n) for n in siblings.names if n in low}
            scale = common(scales)
            if scale is not None:
                folds.add(siblings, scale, low)
    return folds


def common(scales: Mapping[str, Tensor | None]) -> Tensor | None:
    """The one scale of siblings, by name; None: they have none.

    Raises:
        FoldError: they do not have the same.
    """
    if not scales:
        return None
    (first, scale), *others = scales.items()
    for name, other in others:
        if scale is other is None:
            continue
        if scale is None or other is None or not torch.equal(scale, other):
            raise FoldError(
                f"{first} and {name} read one input, and each has an AWQ scale of its "
                "own: give them one width and method"
            )
    return scale


def divided(name: str, cell: Cell, rows: Tensor) -> Cell:
    """A cell with each of its rows divided by a positive number [out].

    Raises:
        FoldError: as `divided_scale`.
    """
    return replace(cell, scale=divided_scale(name, cell.scale, rows))


def divided_scale(name: str, scale: Tensor, rows: Tensor) -> Tensor:
    """The scales of a grid whose rows are divided by positive numbers.

    Args:
        name: the linear's, for messages.
        scale: [out, n_groups].
        rows: [out].

    Raises:
        FoldError: all rows share one grid, or scales would leave their type.
    """
    if len(scale) != len(rows):
        raise FoldError(f"the rows of {name} share one grid: no scale folds into them")
    by = rows.to(scale.device).float().unsqueeze(1)
    exact = scale.float() / by
    stored = exact.clamp(*ENDS[scale.dtype])
    return _rounded(name, exact, by, scale.dtype, at=stored)


def settled(
    parameters: Iterable[tuple[str, Tensor]],
    changed: Mapping[str, Tensor],
    dtype: torch.dtype,
) -> Iterator[tuple[str, Tensor]]:
    """Those of a model's parameters that a checkpoint stores as something else.

    Args:
        parameters: at full precision, by full name; those without a cell.
        changed: what folding made of some of them.
        dtype: the 16-bit type of all others.
    """
    for name, value in parameters:
        stored = changed[name] if name in changed else value.detach().to(dtype)
        stored = stored.to(value.device, value.dtype)
        if not torch.equal(stored, value):
            yield name, stored


def _rounded(
    name: str,
    exact: Tensor,
    unit: Tensor,
    dtype: torch.dtype,
    added: float = 0.0,
    at: Tensor | None = None,
) -> Tensor:
    """Round to a type; errors count in units, beside numbers that are off by `added`.

    Raises:
        FoldError: too little of the numbers is left.
    """
    rounded = (exact if at is None else at).to(dtype)
    size = ((exact + added) * unit).abs()
    error = ((rounded.float() - exact) * unit).abs()
    lost = error / (size + FAINT * size.mean()).clamp(min=torch.finfo(size.dtype).tiny)
    loss = float(lost.square().mean().sqrt())
    if not loss <= LOSS:
        said = str(dtype).removeprefix("torch.")
        raise FoldError(
            f"the AWQ scale that folds into {name} leaves numbers that {said} does not "
            "hold"
        )
    return rounded
