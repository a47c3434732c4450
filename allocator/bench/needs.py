"""Bytes that a request needs: files on the disk, memory of host and accelerator."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from allocator.bench.devices import device_bytes
from allocator.bench.loading import bank_home, recipe_of
from allocator.bench.reading import INPUT_BYTES
from allocator.bench.reserved import LEARNING, LEAST, reserved_bytes
from allocator.bench.reserved import model_bytes as bytes_of
from allocator.core.amounts import in_bytes
from allocator.core.errors import BankError, SpecError
from allocator.core.memory import host_bytes, share
from allocator.core.ports import SPLITS
from allocator.core.unit_costs import Bytes
from quant.bank import missing_cells
from quant.needs import building
from quant.passes import HELD_BYTES
from quant.room import check_bank

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.bench.prepare import Setup

# of an accelerator's memory: a model's own, and what batches and libraries add
BESIDE = 1.1
# different allocations of which something is kept, in a search
ALLOCATIONS = 100


@dataclass(frozen=True)
class Needs:
    """What a request takes beside what is there, and what there is room for.

    Attributes:
        solved: weights that the bank has at all widths, by method.
        bank: bytes that its missing cells take.
        finalized: bytes of finalized weights that are kept at a time.
        least: bytes of files, and of memory without which nothing works.
        room: bytes that are free on the disk, and of memory in all.
    """

    solved: Mapping[str, int]
    bank: int
    finalized: int
    least: Bytes
    room: Bytes


def needs_of(setup: Setup, finalized: float = 0.0) -> Needs:
    """What a request needs on this machine, before anything is loaded.

    Args:
        setup: the request.
        finalized: allocations whose finalized weights are kept at a time.
    """
    recipe, linears, lacking = recipe_of(setup), setup.model.linears, _lacking(setup)
    lacks = {
        method: {name for name, keys in lacking.items() if _has(keys, method)}
        for method in recipe.methods
    }
    solved = {
        method: sum(x.weights for x in linears if x.name not in names)
        for method, names in lacks.items()
    }
    # as large as the budget; without one, as the widest choice
    widest = max(setup.space.bytes(each) for each in setup.space.uniform)
    kept = round(finalized * min(setup.space.room, widest))
    made = building(recipe, linears, lacking, setup.device)
    # a bank is made beside the model, which is loaded by then
    host, device = LEAST + standing_bytes(setup), made.device
    if not setup.device.startswith("cpu"):
        device += round(BESIDE * model_bytes(setup))
    free = shutil.disk_usage(_made(bank_home())).free
    room = Bytes(free, host_bytes(), device_bytes(setup.device))
    least = Bytes(made.disk + kept, host, device)
    return Needs(solved, made.disk, kept, least, room)


def _lacking(setup: Setup) -> dict[str, list[str]]:
    recipe, names = recipe_of(setup), [x.name for x in setup.model.linears]
    return missing_cells(bank_home() / recipe.digest, recipe, names)


def _has(keys: list[str], method: str) -> bool:
    return any(key.partition(".")[0] == method for key in keys)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def model_bytes(setup: Setup) -> int:
    """Bytes of a model at full precision, as it computes here."""
    return bytes_of(setup.model, setup.arithmetic)


def standing_bytes(setup: Setup) -> int:
    """Bytes of the host's memory that nothing can make less."""
    known = setup.asked, setup.model, setup.scheme, setup.device, setup.arithmetic
    return reserved_bytes(*known, SPLITS)


def kept_bytes(setup: Setup, inputs: float, features: float) -> int:
    """Bytes of the host's memory that caches come to at most, and what is learned.

    Args:
        setup: the request.
        inputs: bytes of a sample's inputs.
        features: bytes of what is made of its picture.
    """
    samples = sum(map(len, setup.samples.values()))
    states = features * len(setup.samples["calibration"])
    return round(
        LEARNING
        + min(share(1 / 16, INPUT_BYTES), inputs * samples)
        + min(share(1 / 8, setup.asked.cache_bytes), features * samples * ALLOCATIONS)
        + min(share(1 / 16, HELD_BYTES), states * ALLOCATIONS)
    )


def check_fits(setup: Setup, needs: Needs) -> None:
    """Refuse what the disk or a memory cannot hold, naming what would fit.

    Raises:
        BankError: a bank or finalized weights that do not fit.
        SpecError: a model that a memory does not hold.
    """
    least, room, model = needs.least, needs.room, setup.asked.model
    if least.device > room.device:
        host = needs.least.host + model_bytes(replace(setup, device="cpu"))
        also = f"--device cpu takes {in_bytes(host)} of {in_bytes(room.host)}"
        raise SpecError(
            f"{model} takes at least {in_bytes(least.device)} on {setup.device}, which "
            f"has {in_bytes(room.device)}: "
            f"{also if host <= room.host else 'choose a smaller model'}"
        )
    if least.host > room.host:
        raise SpecError(
            f"{model} takes at least {in_bytes(least.host)} of memory and this machine "
            f"has {in_bytes(room.host)} for it: choose a smaller model"
        )
    recipe = recipe_of(setup)
    folder, lacking = _made(bank_home()), _lacking(setup)
    check_bank(folder, recipe, setup.model.linears, lacking, setup.device)
    if least.disk > room.disk:
        raise BankError(
            f"the bank and the finalized weights of all that is compared take "
            f"{in_bytes(least.disk)} more and {folder.parent} has "
            f"{in_bytes(room.disk)} free: --no-finalize takes {in_bytes(needs.bank)}"
        )
