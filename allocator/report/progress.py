"""Progress: bars on a terminal or in a notebook, one line for each phase elsewhere."""

from __future__ import annotations

import html
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from allocator.core.text import visible
from allocator.core.watch import Silent
from allocator.report.console import PlainConsole, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from allocator.core.watch import Tell, Watch

SHORT = 2.0  # seconds: a phase shorter than this is not worth a line
PAUSE = 0.2  # seconds between two changes of a bar in a notebook


def progress_bars(shown: bool = True) -> Watch:
    """What shows progress here: on a terminal, in a notebook, or nowhere."""
    if not shown:
        return Silent()
    console = PlainConsole(stderr=True)
    return NotebookBars() if console.is_jupyter else Bars(console)


class Bars:
    """Shows how far each phase is."""

    def __init__(self, console: PlainConsole | None = None) -> None:
        self.console = console or PlainConsole(stderr=True)

    def say(self, text: str) -> None:
        """Say one line."""
        say(self.console, text)

    @contextmanager
    def phase(self, name: str) -> Iterator[Tell]:
        """Open a phase; its `Tell` is told steps done and steps in all."""
        started, steps = time.monotonic(), [0, 0]
        with Progress(
            TextColumn(f"{name:<13}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self.console,
            disable=not self.console.is_terminal,
        ) as progress:
            bar = progress.add_task(name, total=None, note="")

            def tell(done: int, total: int, note: str = "", /) -> None:
                steps[:] = done, total
                progress.update(bar, completed=done, total=total, note=visible(note))

            yield tell
        seconds = time.monotonic() - started
        # of what was done before nothing is told
        if not self.console.is_terminal and seconds > SHORT and steps[1]:
            self.say(f"{name}: {steps[0]} of {steps[1]} in {seconds:.0f} s")


class NotebookBars:
    """Shows how far each phase is below a notebook's cell, a line for each."""

    def say(self, text: str) -> None:
        """Say one line."""
        shown = visible(text)
        _display(shown, html.escape(shown))

    @contextmanager
    def phase(self, name: str) -> Iterator[Tell]:
        """Open a phase; its line appears with the first step it is told of."""
        line = _BarLine(name)
        yield line.tell
        line.show()


class _BarLine:
    """A line that changes as a phase goes on, a few times a second and no more."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = self.markup = ""
        self.handle: Any = None
        self.shown = 0.0

    def tell(self, done: int, total: int, note: str = "", /) -> None:
        """Steps done and steps in all."""
        self.text = visible(f"{self.name}: {done} of {total} {note}".rstrip())
        bar = f'<progress value="{done}" max="{total}"></progress>'
        self.markup = f"{bar} {html.escape(self.text)}"
        if time.monotonic() - self.shown >= PAUSE:
            self.show()

    def show(self) -> None:
        """Show what was told last, if anything."""
        if self.handle is not None:
            self.handle.update(_line(self.text, self.markup), raw=True)
        elif self.text:
            self.handle = _display(self.text, self.markup)
        self.shown = time.monotonic()


def _line(text: str, markup: str) -> dict[str, str]:
    """A line as notebooks take it: as text, and as HTML."""
    return {"text/plain": text, "text/html": f"<div>{markup}</div>"}


def _display(text: str, markup: str) -> Any:
    """Show a line; returns what changes it."""
    # a notebook has it
    from IPython.display import display

    return display(_line(text, markup), raw=True, display_id=True)
