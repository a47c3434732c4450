"""What comes of damaged inputs: a value, or one sentence of ours, and nothing else."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from allocator.core.errors import AllocateError
from tests.fuzz.damage import damaged

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fuzz.readers import Reader

# seconds that any input may take
LONGEST = 10.0


class FuzzError(AssertionError):
    """An input that made something else of a reader; says how to make it again."""


@dataclass
class Outcomes:
    """How many inputs were read, how many refused, and the longest of them."""

    read: int = 0
    refused: int = 0
    longest: float = 0.0
    sentences: set[str] = field(default_factory=set)

    @property
    def told(self) -> str:
        return (
            f"{self.read + self.refused:,} inputs, {self.read:,} read, "
            f"{self.refused:,} refused in {len(self.sentences):,} sentences, "
            f"{self.longest:.2f} s at most"
        )


def inputs(seeds: list[bytes], name: str, number: int) -> bytes:
    """One input, the same whenever it is asked for."""
    rng = random.Random(f"{name} {number}")
    return damaged(rng.choice(seeds), rng)


def outcomes(
    reader: Reader, folder: Path, count: int, *, alarm: bool = False
) -> Outcomes:
    """Let a reader read many inputs.

    With `alarm` a signal interrupts what takes too long.

    Raises:
        FuzzError: one of them raised something else, a sentence of several lines, or
            took too long.
    """
    seeds, read = reader.made(folder)
    found, name = Outcomes(), reader.name
    for seed in seeds:
        read(seed)
    for number in range(count):
        content = f"{name} {number}".encode()
        if not reader.drawn:
            content = inputs(list(seeds), name, number)
        started = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, LONGEST if alarm else 0)
        try:
            read(content)
            found.read += 1
        except AllocateError as error:
            said = str(error)
            if not said.strip() or "\n" in said:
                raise FuzzError(_again(name, number, content, said)) from error
            found.refused += 1
            found.sentences.add(said[:200])
        except Exception as error:
            raise FuzzError(_again(name, number, content, repr(error))) from error
        took = time.perf_counter() - started
        found.longest = max(found.longest, took)
        if took > LONGEST:
            raise FuzzError(_again(name, number, content, f"it took {took:.1f} s"))
    signal.setitimer(signal.ITIMER_REAL, 0)
    return found


def _again(name: str, number: int, content: bytes, what: str) -> str:
    return f"{name}, input {number}, {content[:300]!r} gives {what[:300]}"
