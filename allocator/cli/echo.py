"""Lines that commands print by themselves."""

from __future__ import annotations

import click

from allocator.core.text import visible


def echo(*lines: str, err: bool = False) -> None:
    """Print lines; of names from outside, what would not show is made visible."""
    click.echo("\n".join(map(visible, lines)), err=err)
