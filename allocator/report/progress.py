"""Progress on stderr: bars on a terminal, one line for each phase elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.core.watch import Tell

SHORT = 2.0  # seconds: a phase shorter than this is not worth a line


class Bars:
    """Shows how far each phase is."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)

    def say(self, text: str) -> None:
        """Say one line."""
        self.console.print(text, highlight=False)

    @contextmanager
    def phase(self, name: str) -> Iterator[Tell]:
        """Open a phase; its `Tell` is told steps done and steps in all."""
        started, steps = time.monotonic(), [0, 0]
        with Progress(
            TextColumn(f"{name:<13}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        ) as progress:
            bar = progress.add_task(name, total=None, note="")

            def tell(done: int, total: int, note: str = "", /) -> None:
                steps[:] = done, total
                progress.update(bar, completed=done, total=total, note=note)

            yield tell
        seconds = time.monotonic() - started
        if not self.console.is_terminal and seconds > SHORT:
            self.say(f"{name}: {steps[0]} of {steps[1]} in {seconds:.0f} s")
