"""The terminal: text is printed as it is, and none of it is a command to anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console

from allocator.core.masking import hidden
from allocator.core.text import visible

if TYPE_CHECKING:
    from rich.text import Text


class PlainConsole(Console):
    """Takes no text for markup, emoji or control characters, in tables neither.

    Args:
        more: as for `rich.console.Console`.
    """

    def __init__(self, **more: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **more)

    def render_str(self, text: str, **more: Any) -> Text:
        """Every text that is printed, in a cell or by itself, comes by here."""
        plain = {"markup": False, "emoji": False, "highlight": False}
        return super().render_str(
            visible(hidden(text), self.encoding), **{**more, **plain}
        )


def say(console: Console, text: str) -> None:
    """Print a sentence: the terminal wraps it, a file keeps it whole."""
    shown = visible(hidden(text))
    console.print(shown, highlight=False, markup=False, emoji=False, soft_wrap=True)
