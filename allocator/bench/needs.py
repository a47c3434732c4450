"""Bytes that a request needs: files on the disk, memory of host and accelerator."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

from allocator.bench.devices import device_bytes, host_bytes
from allocator.bench.loading import bank_home, recipe_of
from allocator.bench.reading import INPUT_BYTES
from allocator.core.account import peak_memory
from allocator.core.allocation import FULL
from allocator.core.amounts import in_bytes
from allocator.core.errors import BankError, BudgetError, SpecError
from allocator.core.unit_costs import Bytes
from quant.bank import missing_cells
from quant.needs import missing_bytes
from quant.passes import HELD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.core.study import StudySpec

# of an accelerator's memory: the model's own, and what batches and libraries add
BESIDE = 1.1
# matrices in float32 that solving the largest linear holds: weights, errors, a factor
AT_WORK = 3
# states that finalizing keeps: quantized and full, in front of a stage and behind it
SPOOLS = 4


@dataclass(frozen=True)
class Needs:
    """What a request takes beside what is there, and what there is room for.

    Attributes:
        solved: weights that the bank has at all widths, by method.
        bank: bytes that its missing cells take.
        finalized: bytes of finalized weights that are kept at a time.
        least: bytes of disk and memory without which nothing works.
        room: bytes that are free on the disk, and of memory in all.
    """

    solved: Mapping[str, int]
    bank: int
    finalized: int
    least: Bytes
    room: Bytes

    @property
    def disk(self) -> int:
        """Bytes of all files that are made."""
        return self.bank + self.finalized


def needs_of(setup: Setup, finalized: float = 0.0) -> Needs:
    """What a request needs on this machine, before anything is loaded.

    Args:
        setup: the request.
        finalized: allocations whose finalized weights are kept at a time.
    """
    linears, lacking = setup.model.linears, _lacking(setup)
    lacks = {
        method: {name for name, keys in lacking.items() if _has(keys, method)}
        for method in setup.asked.methods
    }
    solved = {
        method: sum(x.weights for x in linears if x.name not in names)
        for method, names in lacks.items()
    }
    # as large as the budget; without one, as the widest choice
    widest = max(setup.space.bytes(each) for each in setup.space.uniform)
    kept = round(finalized * min(setup.space.room, widest))
    bank = missing_bytes(recipe_of(setup), linears, lacking)
    least = Bytes(bank + kept, _host(setup), _device(setup))
    room = Bytes(_free(bank_home()), host_bytes(), device_bytes(setup.device))
    return Needs(solved, bank, kept, least, room)


def _lacking(setup: Setup) -> dict[str, list[str]]:
    recipe, names = recipe_of(setup), [x.name for x in setup.model.linears]
    return missing_cells(bank_home() / recipe.digest, recipe, names)


def _has(keys: list[str], method: str) -> bool:
    return any(key.partition(".")[0] == method for key in keys)


def model_bytes(setup: Setup) -> int:
    """Bytes of a model at full precision, as it computes here."""
    is_wide = setup.arithmetic.endswith("float32")
    return setup.model.parameters * (4 if is_wide else 2)


def _at_work(setup: Setup) -> int:
    return AT_WORK * 4 * max(linear.weights for linear in setup.model.linears)


def _host(setup: Setup) -> int:
    """Bytes of the host's memory at least; what Python and libraries hold by now too.

    On an accelerator a model passes through it file by file.
    """
    held = model_bytes(setup) if setup.device.startswith("cpu") else 0
    return peak_memory()["host"] + held + _at_work(setup)


def _device(setup: Setup) -> int:
    """Bytes of an accelerator's memory at least."""
    if setup.device.startswith("cpu"):
        return 0
    return round(BESIDE * model_bytes(setup)) + _at_work(setup)


def kept_bytes(setup: Setup, inputs: float, features: float) -> int:
    """Bytes of memory that caches come to: all there is to keep, up to their limits.

    Args:
        setup: the request.
        inputs: bytes of a sample's inputs.
        features: bytes of what is made of its picture.
    """
    samples = sum(map(len, setup.samples.values()))
    return round(
        min(INPUT_BYTES, inputs * samples)
        + min(setup.asked.cache_bytes, features * samples)
        + SPOOLS * min(HELD_BYTES, inputs * len(setup.samples["calibration"]))
    )


def check_fits(setup: Setup, needs: Needs) -> None:
    """Refuse what the disk or a memory cannot hold, naming what would fit.

    Raises:
        BankError: files that the disk does not hold.
        SpecError: a model that a memory does not hold.
    """
    least, room, model = needs.least, needs.room, setup.asked.model
    if needs.disk > room.disk:
        raise BankError(
            f"the bank and finalized weights take {in_bytes(needs.disk)} more and "
            f"{bank_home().parent} has {in_bytes(room.disk)} free: "
            f"{_smaller(setup, needs)}"
        )
    if least.device > room.device:
        host = _host(replace(setup, device="cpu"))
        also = f"--device cpu takes {in_bytes(host)} of {in_bytes(room.host)}"
        raise SpecError(
            f"{model} takes at least {in_bytes(least.device)} on {setup.device}, which "
            f"has {in_bytes(room.device)}: "
            f"{also if host <= room.host else 'choose a smaller model'}"
        )
    if least.host > room.host:
        raise SpecError(
            f"{model} takes at least {in_bytes(least.host)} of memory and this machine "
            f"has {in_bytes(room.host)}: choose a smaller model"
        )


def _smaller(setup: Setup, needs: Needs) -> str:
    """The first request like this one whose files fit, in an option's words."""
    for option, asked in _less(setup.asked):
        try:
            space = replace(setup.space, choices=asked.choices)
        except BudgetError:
            # its smallest allocation is over the budget
            continue
        other = replace(setup, asked=asked, space=space)
        linears, lacking = setup.model.linears, _lacking(other)
        disk = missing_bytes(recipe_of(other), linears, lacking) + needs.finalized
        if disk <= needs.room.disk:
            return f"{option} takes {in_bytes(disk)}"
    if setup.asked.finalize and needs.bank <= needs.room.disk:
        return f"--no-finalize takes {in_bytes(needs.bank)}"
    return "no methods and widths fit; let XDG_CACHE_HOME name a larger disk"


def _less(asked: StudySpec) -> Iterator[tuple[str, StudySpec]]:
    """Requests for less: fewer methods, then fewer widths, then fewer of both."""
    methods = [
        each
        for count in range(len(asked.methods) - 1, 0, -1)
        for each in combinations(asked.methods, count)
    ]
    low, full = asked.low_widths, (FULL,) if FULL in asked.widths else ()
    # the wide ones weigh most, and a budget may need the narrowest
    widths = [(*low[:count], *full) for count in range(len(low) - 1, 0, -1)]
    for some in methods:
        yield f"--methods {','.join(some)}", replace(asked, methods=some)
    for few in (asked.methods, *methods):
        named = f"--methods {','.join(few)} " if few != asked.methods else ""
        for wide in widths:
            option = f"{named}--widths {','.join(map(str, wide))}"
            yield option, replace(asked, methods=few, widths=wide)


def _free(folder: Path) -> int:
    """Bytes free on the disk of a folder, which may not be there yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
