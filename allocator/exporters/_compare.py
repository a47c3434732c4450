"""What a runtime has read, held against what was to be written, and was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.errors import ModelError
from allocator.core.weights import weight_of
from quant.grid import by_group, decode, encode
from quant.streaming import in_memory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from allocator.core.exporting import Reopened
    from allocator.core.ports import State
    from allocator.core.watch import Tell
    from allocator.exporters._checkpoint import Checkpoint
    from allocator.exporters._export import Export
    from quant.grid import Cell

Weights = Callable[[str, "Tensor"], "Tensor"]
# largest difference of logits, in parts of their range, between what was measured and
# what is written: folding rounds, and so does storing the rest in 16 bits. Steps of
# bfloat16 are eight times as wide (studies/export/folding.py: 2.3e-3 at most)
FOLDED_WITHIN = {"torch.float16": 2e-3, "torch.bfloat16": 1.6e-2}
# codes that are counted at once
COUNTED = 2**24


def compare(export: Export, reopened: Reopened, tell: Tell) -> dict[str, Any]:
    """Compare weights linear by linear, then logits.

    Returns:
        Plain data, the largest differences: of `weights` in steps of their grids, of
        `logits` in parts of their range (None: not compared), of logits `measured` and
        written; `codes` used by a group, fewest and mean, by width; what is `said`.

    Raises:
        ModelError: names the first linear that reads as something else.
    """
    made = export.checkpoint
    found = _weights(made, reopened, tell)
    said = [found.pop("collapsed")] if found["collapsed"] else []
    found.pop("collapsed", None)
    logits = _logits(export, reopened)
    said += [logits.pop("not compared")] if "not compared" in logits else []
    return {**found, **logits, "said": said}


def _weights(made: Checkpoint, reopened: Reopened, tell: Tell) -> dict[str, Any]:
    largest, collapsed = 0.0, 0
    used: dict[int, list[tuple[int, float]]] = {}
    within = reopened.tolerance.weights
    for done, name in enumerate(made.low):
        tell(done, len(made.low))
        cell = made.cell(name)
        error, codes = difference(name, cell, reopened.weight(name), within)
        largest = max(largest, error)
        counts = distinct_codes(codes, cell)
        used.setdefault(cell.bits, []).append(
            (int(counts.min()), float(counts.double().mean()))
        )
        source = weight_of(made.model.module, name)
        collapsed += _collapsed(source.detach(), counts)
    tell(len(made.low), len(made.low))
    told = f"{collapsed} groups have one code for all their weights, as measured"
    return {
        "linears": len(made.low),
        "weights": largest,
        "codes": {
            bits: {
                "fewest": min(fewest for fewest, _ in each),
                "mean": sum(mean for _, mean in each) / len(each),
            }
            for bits, each in sorted(used.items())
        },
        "collapsed": told if collapsed else None,
    }


def difference(
    name: str, cell: Cell, read: Tensor, within: float
) -> tuple[float, Tensor]:
    """Largest difference of a linear's weights in steps, and the codes that were read.

    Args:
        name: the linear's.
        cell: what was written.
        read: weight that a loader has of it: [out, in] float32.
        within: how much it may differ, in steps; its codes may not.

    Raises:
        ModelError: it differs more.
    """
    wanted = decode(cell.codes, cell)
    if read.shape != wanted.shape:
        raise ModelError(
            f"{name} was written as {list(wanted.shape)} and reads as "
            f"{list(read.shape)}"
        )
    if torch.equal(read, wanted):
        return 0.0, cell.codes
    steps = by_group(read - wanted, cell.columns) / cell.scale.float().unsqueeze(-1)
    error, codes = float(steps.abs().max()), encode(read, cell)
    if not error <= within or not torch.equal(codes, cell.codes):
        wrong = int((codes != cell.codes).sum())
        raise ModelError(
            f"{name} does not read as it was written: {wrong:,} of {codes.numel():,} "
            f"codes differ, and weights by up to {error:.3g} steps of their grid "
            f"(allowed: {within:g})"
        )
    return error, codes


def distinct_codes(codes: Tensor, cell: Cell) -> Tensor:
    """Different codes in each group of a matrix: [groups].

    Args:
        codes: [out, in] uint8.
        cell: says the width, and which columns are a group.
    """
    columns = codes.numel() if cell.scale.numel() == 1 else cell.columns
    groups = codes.reshape(-1, columns)
    rows = max(1, COUNTED // columns)
    found = []
    for part in torch.split(groups, rows):
        seen = torch.zeros(len(part), cell.levels + 1, dtype=torch.bool)
        found.append(seen.scatter_(1, part.long(), True).sum(1))
    return torch.cat(found)


def _collapsed(source: Tensor, counts: Tensor) -> int:
    """Groups of different weights that all have one code."""
    single = counts == 1
    if not bool(single.any()):
        return 0
    groups = source.reshape(len(counts), -1)[single].float()
    return int((groups.amax(1) > groups.amin(1)).sum())


def _logits(export: Export, reopened: Reopened) -> dict[str, Any]:
    """Largest differences of logits, in parts of their range.

    Raises:
        ModelError: they are larger than they may be.
    """
    made, samples = export.checkpoint, export.checkpoint.samples
    found: dict[str, Any] = {"samples": len(samples), "logits": None}
    why, read = None, None
    if not samples:
        why = "there are no samples to compare them on"
    elif export.large:
        why = "the model is too large to be decoded in memory; its weights are"
    elif (read := reopened.logits(samples)) is None:
        why = "what read it again does not run the model"
    if why is not None:
        found["not compared"] = f"logits are not compared: {why}"
    if not samples or (read is None and made.measured is None):
        return found
    written = staged_logits(made, as_written(made))
    if made.measured is not None:
        measured = staged_logits(made, as_measured(made))
        whose = "the weights written, as measured"
        found["measured"] = _within(
            measured, written, FOLDED_WITHIN[str(made.dtype)], whose
        )
    if read is not None:
        allowed = reopened.tolerance.logits
        found["logits"] = _within(written, read, allowed, reopened.loader)
    return found


def _within(ours: Tensor, theirs: Tensor, allowed: float, whose: str) -> float:
    """Largest difference in parts of the range of `ours`.

    Raises:
        ModelError: it is larger than is allowed.
    """
    if ours.shape != theirs.shape:
        raise ModelError(
            f"logits of {whose} are {list(theirs.shape)}, ours {list(ours.shape)}"
        )
    span = ours.max() - ours.min()
    error = float((ours - theirs.float()).abs().max() / span)
    if not error <= allowed:
        raise ModelError(
            f"logits of {whose} differ by {error:.2g} of their range (allowed: "
            f"{allowed:g})"
        )
    return error


@torch.no_grad()
def staged_logits(made: Checkpoint, weights: Weights) -> Tensor:
    """Logits of the next token behind the samples: [samples, vocabulary] float32.

    Stage by stage, so that no more than one stage is decoded at a time.

    Args:
        made: has the model, mapped, and the samples.
        weights: gives each parameter as it is to be.
    """
    model, module = made.model, made.model.module
    # one at a time: none depends on how long the others are
    states: list[State] = [model.inputs([sample]) for sample in made.samples]
    for stage in model.stages():
        with in_memory(module, stage.uses, "cpu"):
            for name, parameter in _used(module, stage.uses):
                parameter.data = weights(name, parameter).float()
            for at, state in enumerate(states):
                states[at] = _last(stage.run(state))
    return torch.cat([state["logits"][:, -1] for state in states]).float()


def as_written(made: Checkpoint) -> Weights:
    """Parameters as a checkpoint stores them: codes decoded, the rest in 16 bits."""
    low = _by_identity(made)

    def weight(name: str, parameter: Tensor) -> Tensor:
        if id(parameter) in low:
            return made.weight(low[id(parameter)])
        return made.changed.get(name, parameter.data).to(made.dtype)

    return weight


def as_measured(made: Checkpoint) -> Weights:
    """Parameters as they were when the score was measured."""
    low, measured = _by_identity(made), made.measured
    assert measured is not None

    def weight(name: str, parameter: Tensor) -> Tensor:
        del name
        if id(parameter) in low:
            return measured(low[id(parameter)])
        return parameter.data

    return weight


def _by_identity(made: Checkpoint) -> dict[int, str]:
    """Names of the linears below 16 bits by their matrices: one may be tied."""
    module = made.model.module
    return {id(weight_of(module, name)): name for name in made.low}


def _used(module: Any, uses: Sequence[str]) -> list[tuple[str, Tensor]]:
    """Parameters below some names, tied ones once, by the name `rest` has of them."""
    starts = tuple(f"{name}." for name in uses)
    first = {id(parameter): name for name, parameter in module.named_parameters()}
    found = {
        id(parameter): parameter
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if name in uses or name.startswith(starts)
    }
    return [(first[key], parameter) for key, parameter in found.items()]


def _last(state: State) -> State:
    """A state, of whose logits the last position is kept."""
    if "logits" not in state:
        return state
    return {**state, "logits": state["logits"][:, -1:].clone()}
