"""Experts that saw few tokens borrow statistics from all experts of their block.

A Hessian of fewer tokens than its linear has inputs is singular, and one of hardly more
says little. An expert that saw fewer than twice as many is quantized with its own
statistics mixed with the mean of all, weighted by tokens; its own count tokens / (2 x
inputs). One that saw none has those of all; where no expert saw any, an error counts
the same in every column.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch

from allocator.core.bounded import read_json
from allocator.core.errors import BankError
from quant.files import replace_file
from quant.hessian import InputStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

# tokens for each input, below which an expert borrows
ENOUGH = 2
# in a bank's folder: how many tokens the experts of a stack saw, a file each
FED = ".experts"


def borrows(tokens: int, inputs: int) -> bool:
    """Whether an expert that saw so many tokens has too few for so many inputs."""
    return tokens < ENOUGH * inputs


@dataclass(frozen=True, eq=False)
class Pool:
    """What all experts of a stack have read together.

    Attributes:
        name: full name of the parameter that holds their weights.
        inputs: statistics of all that they read.
        tokens: that each of them saw.
    """

    name: str
    inputs: InputStatistics
    tokens: tuple[int, ...]

    @staticmethod
    def of(name: str, each: Sequence[InputStatistics]) -> Pool:
        """The pool of a stack, from the statistics of each of its experts."""
        total = InputStatistics.empty(len(each[0].mean_abs), each[0].mean_abs.device)
        for own in each:
            if own.tokens:
                total.tokens += own.tokens
                share = own.tokens / total.tokens
                total.hessian.lerp_(own.hessian, share)
                total.mean_abs.lerp_(own.mean_abs, share)
        return Pool.whole(name, total, [own.tokens for own in each])

    @staticmethod
    def whole(name: str, total: InputStatistics, tokens: Sequence[int]) -> Pool:
        """The pool of a stack, from statistics of all that its experts read."""
        if not total.tokens:
            features = len(total.mean_abs)
            total = InputStatistics.even(features, total.mean_abs.device)
        return Pool(name, total, tuple(tokens))

    def mixed(self, own: InputStatistics) -> InputStatistics:
        """What an expert is quantized with: its own statistics, if it saw enough."""
        if not borrows(own.tokens, len(own.mean_abs)):
            return own
        if not own.tokens:
            return self.inputs
        share = own.tokens / (ENOUGH * len(own.mean_abs))
        return InputStatistics(
            torch.lerp(self.inputs.hessian, own.hessian, share),
            torch.lerp(self.inputs.mean_abs, own.mean_abs, share),
            own.tokens,
        )


def keep_fed(folder: Path, pool: Pool) -> None:
    """Write down how many tokens each expert of a stack saw, for the manifest."""
    said = {"inputs": len(pool.inputs.mean_abs), "tokens": pool.tokens}
    file = folder / FED / f"{pool.name}.json"
    replace_file(file, lambda draft: draft.write_text(json.dumps(said)))


@dataclass(frozen=True)
class Feeding:
    """How far calibration samples fed the experts of a bank.

    Attributes:
        experts: of all blocks.
        mixed: those that saw too few tokens, in one of their linears at least.
        unseen: those among them that saw none.
        needed: calibration samples that would feed them all, by the share of tokens
            that the least used one has; at least so many where `unseen` is not 0.
    """

    experts: int
    mixed: int
    unseen: int
    needed: int


def feeding(manifest: Mapping[str, Any]) -> Feeding | None:
    """How far the experts of a finished bank were fed; None where it has none.

    Args:
        manifest: of the bank (`quant.bank.read_manifest`).

    Raises:
        BankError: it says something else of them.
    """
    said = manifest.get("experts")
    if not said:
        return None
    try:
        return Feeding(*(int(said[each.name]) for each in fields(Feeding)))
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise BankError(
            f"a bank's manifest does not say how experts were fed: {error!r:.200}"
        ) from None


def fed_manifest(folder: Path, names: Iterable[str], samples: int) -> dict[str, Any]:
    """What a bank's manifest says of its experts; nothing where it has none.

    Args:
        folder: the bank's.
        names: full names of all linears that are in it.
        samples: calibration samples that it is made of.
    """
    stacks = {
        stack: said
        for stack in sorted({name.rpartition(".")[0] for name in names})
        if (said := _fed(folder / FED / f"{stack}.json")) is not None
    }
    if not stacks:
        return {}
    return {"experts": {**asdict(_feeding(stacks, samples)), "stacks": stacks}}


def _fed(file: Path) -> dict[str, Any] | None:
    """What was written down of a stack; None where that is not there, or damaged."""
    try:
        said: dict[str, Any] = read_json(file)
        whole = isinstance(said["inputs"], int) and all(
            isinstance(each, int) for each in said["tokens"]
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return said if whole else None


def _feeding(stacks: Mapping[str, Any], samples: int) -> Feeding:
    # an expert is a number in a module of experts; it has a linear in each stack
    times: dict[tuple[str, int], float] = {}
    unseen: set[tuple[str, int]] = set()
    for stack, own in stacks.items():
        for number, tokens in enumerate(own["tokens"]):
            expert = stack.rpartition(".")[0], number
            # one that saw none may have been about to see its first
            more = ENOUGH * own["inputs"] / max(tokens, 1)
            times[expert] = max(more, times.get(expert, 0.0))
            if not tokens:
                unseen.add(expert)
    mixed = sum(more > 1 for more in times.values())
    needed = math.ceil(max(times.values()) * samples)
    return Feeding(len(times), mixed, len(unseen), needed)
