"""Lines that commands print by themselves."""

from __future__ import annotations

import sys

import click

from allocator.core.masking import hidden
from allocator.core.text import visible


def echo(*lines: str, err: bool = False) -> None:
    """Print lines; of names from outside, what would not show is made visible."""
    stream = sys.stderr if err else sys.stdout
    encoding = stream.encoding or "utf-8"
    shown = [visible(hidden(line), encoding) for line in lines]
    click.echo("\n".join(shown), err=err)
