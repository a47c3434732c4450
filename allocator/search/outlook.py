"""What a search will cost here: samples, swaps, bytes and time, before it begins.

Counts come from the request (`allocator.search.forecast`), less what a study and a bank
have; seconds from a little of each kind of work on this device, once the model is
loaded (`allocator.bench.measuring`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from allocator.bench.needs import Needs, check_fits, kept_bytes, needs_of
from allocator.bench.references import foretold
from allocator.core.account import peak_memory
from allocator.core.amounts import duration, in_bytes, short
from allocator.core.forecast import OTHER, Savings
from allocator.core.memory import taken_bytes
from allocator.core.own import summary_of
from allocator.core.unit_costs import Unit
from allocator.search.begun import done_of
from allocator.search.forecast import forecast

if TYPE_CHECKING:
    from allocator.bench.measuring import Measured
    from allocator.bench.prepare import Setup
    from allocator.bench.workbench import Workbench
    from allocator.core.clock import Clock
    from allocator.core.forecast import Forecast
    from allocator.core.own import Summary
    from allocator.core.unit_costs import Bytes

# seconds of an estimate that count as nothing
NO_TIME = 0.5
# seconds that importance and what else comes last takes, on a core (studies/LOG.md)
CLOSING = 3.0


@dataclass(frozen=True)
class Outlook:
    """What a search will do and take.

    `memory` are bytes of the bank's and finalized weights' files, and of memory at
    most; `seconds` belong to the parts of the forecast, by name. `data` tells of a
    user's own file.
    """

    forecast: Forecast
    needs: Needs
    memory: Bytes
    measured: Measured
    seconds: dict[str, float]
    data: Summary | None = None

    @property
    def total(self) -> float:
        """Seconds of everything."""
        return sum(self.seconds.values())

    @property
    def ahead(self) -> dict[str, float]:
        """Seconds of what comes when the model is loaded."""
        return {name: took for name, took in self.seconds.items() if name != OTHER}

    @property
    def sentences(self) -> list[str]:
        """The same in a few lines."""
        done, room = self.forecast.total, self.needs.room
        weights = self.forecast.weights
        made = [
            f"{count / weights:.0f} allocations {what}"
            for count, what in (
                (done.finalized, "quantized in sequence"),
                (done.tuned, "tuned"),
            )
            if count
        ]
        parts = sorted(self.seconds.items(), key=lambda item: -item[1])
        longest = [f"{k} {duration(v)}" for k, v in parts[:4] if v > NO_TIME]
        tokens = self.forecast.tokens(self.measured.lengths)["language"]
        host, device = self.memory.host, self.memory.device
        held = f"{in_bytes(host)} of {in_bytes(room.host)} memory"
        if device:
            held += f", {in_bytes(device)} of {in_bytes(room.device)} on the GPU"
        return [
            f"to do: {done.scored:,.0f} samples to score, {done.looked:,.0f} to look "
            f"at ({short(tokens)} tokens through the language model), "
            f"{done.swaps:,.0f} swaps of {short(done.swapped)} weights"
            + "".join(f", {each}" for each in made),
            f"to make: {in_bytes(self.needs.bank)} of bank and "
            f"{in_bytes(self.needs.finalized)} of finalized weights on the disk "
            f"({in_bytes(room.disk)} free); at most about {held}",
            f"time: about {duration(self.total)} ({', '.join(longest)})",
        ]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        lengths = self.measured.lengths
        return {
            **self.forecast.to_json(),
            "tokens": {k: round(v) for k, v in self.forecast.tokens(lengths).items()},
            "lengths": vars(lengths),
            "seconds": {"total": self.total, **self.seconds},
            "unit_costs": self.measured.units.to_json(),
            "bytes": {
                **self.memory.to_json(),
                "bank": self.needs.bank,
                "finalized": self.needs.finalized,
            },
            "room": self.needs.room.to_json(),
            **({} if self.data is None else {"data": self.data.to_json()}),
        }


def foreseen(setup: Setup) -> Needs:
    """What a request needs, where this machine can hold it; nothing is loaded.

    Raises:
        BankError: files that the disk does not hold.
        SpecError: a model that a memory does not hold.
    """
    setup, _ = foretold(setup)
    counts = forecast(setup.asked, setup.model, _sets(setup)).total
    needs = needs_of(setup, max(counts.finalized, counts.tuned) / setup.model.weights)
    check_fits(setup, needs)
    return needs


def outlook(setup: Setup, needs: Needs, bench: Workbench, started: Clock) -> Outlook:
    """What a search will cost.

    Args:
        setup: the request.
        needs: of `foreseen`.
        bench: its model, loaded; at 16 bits behind it.
        started: when the program began.
    """
    from allocator.bench.measuring import measure

    before = started.seconds
    setup, asked = foretold(setup)
    measured = measure(setup, bench)
    done = done_of(setup, needs.solved)
    usual = Savings(races=setup.task.needs == "reply")
    savings = measured.savings(usual)
    done = replace(done, references=asked)
    found = forecast(setup.asked, setup.model, _sets(setup), done, savings)
    units = measured.units
    units = replace(units, start=Unit(before + units.start.seconds + CLOSING))
    kept = kept_bytes(setup, measured.inputs, measured.features)
    host = max(needs.least.host, (taken_bytes() or peak_memory()["host"]) + kept)
    memory = replace(needs.least, host=host)
    seconds = found.seconds(units, measured.lengths)
    data = summary_of(setup.task)
    data = data and data.of(setup.samples)
    return Outlook(found, needs, memory, measured, seconds, data)


def _sets(setup: Setup) -> dict[Any, int]:
    return {split: len(own) for split, own in setup.samples.items()}
