"""Progress: bars on a terminal or in a notebook, one line for each phase elsewhere."""

from __future__ import annotations

import html
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from allocator.core.watch import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.core.watch import Tell, Watch

SHORT = 2.0  # seconds: a phase shorter than this is not worth a line
PAUSE = 0.2  # seconds between two changes of a bar in a notebook


def progress_bars(shown: bool = True) -> Watch:
    """What shows progress here: on a terminal, in a notebook, or nowhere."""
    if not shown:
        return Silent()
    console = Console(stderr=True)
    return NotebookBars() if console.is_jupyter else Bars(console)


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


class NotebookBars:
    """Shows how far each phase is below a notebook's cell, a line for each."""

    def say(self, text: str) -> None:
        """Say one line."""
        _display(text, html.escape(text))

    @contextmanager
    def phase(self, name: str) -> Iterator[Tell]:
        """Open a phase; its `Tell` is told steps done and steps in all."""
        handle, shown = _display(name, html.escape(name)), [0.0]
        last = ["", ""]

        def tell(done: int, total: int, note: str = "", /) -> None:
            last[:] = (
                f"{name}: {done} of {total} {note}".rstrip(),
                f'<progress value="{done}" max="{total}"></progress> '
                f"{html.escape(f'{name}: {done} of {total} {note}')}",
            )
            # the notebook keeps up with a few changes a second, no more
            if time.monotonic() - shown[0] >= PAUSE:
                shown[0] = time.monotonic()
                handle.update(_line(*last), raw=True)

        yield tell
        if last[0]:
            handle.update(_line(*last), raw=True)


def _line(text: str, markup: str) -> dict[str, str]:
    """A line as notebooks take it: as text, and as HTML."""
    return {"text/plain": text, "text/html": f"<div>{markup}</div>"}


def _display(text: str, markup: str) -> Any:
    """Show a line; returns what changes it."""
    # a notebook has it
    from IPython.display import display

    return display(_line(text, markup), raw=True, display_id=True)
