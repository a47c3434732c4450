"""Values that options take: how they are read, and what a shell offers for them."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

from allocator.core.allocation import GROUP_SIZES, WIDTHS
from allocator.core.text import is_count


class Words(click.ParamType[Any]):
    """A comma-separated list, each word once."""

    name = "a,b,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Split at commas."""
        del param, ctx
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(word.strip() for word in str(value).split(",")))


class Widths(Words):
    """A comma-separated list of bit widths."""

    name = "2,3,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[Any, ...]:
        """Read whole numbers, in rising order."""
        words = super().convert(value, param, ctx)
        allowed = ", ".join(map(str, WIDTHS))
        try:
            return tuple(sorted(int(word) for word in words))
        except ValueError:
            self.fail(f"{value!r} is not a list of widths; widths are {allowed}")


class GroupSize(click.ParamType[Any]):
    """A number of columns, "channel" or "tensor"."""

    name = "|".join(map(str, GROUP_SIZES))

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        """Read a number where it is one."""
        del param, ctx
        return int(value) if is_count(str(value)) else str(value)


class Duration(click.ParamType[Any]):
    """A time such as 90, 90s, 20m, 1.5h or 30d."""

    name = "20m"
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # noqa: RUF012, a constant table

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Read seconds."""
        del param, ctx
        if isinstance(value, float):
            return value
        text = str(value).strip()
        unit = self.units.get(text[-1:].lower(), 0)
        try:
            return float(text[:-1]) * unit if unit else float(text)
        except ValueError:
            self.fail(f"{value!r} is not a time such as 90s, 20m or 1.5h")


class Fraction(click.ParamType[Any]):
    """A share above 0, up to 1."""

    name = "0.1"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """Read a number."""
        del param, ctx
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is not a fraction such as 0.1")


def listed(names: Any) -> str:
    """Names in one line."""
    return ", ".join(map(str, names))


def completing(names: Any) -> Any:
    """What a shell offers for a value: names that begin like it."""

    def offered(ctx: Any, param: Any, incomplete: str) -> list[str]:
        del ctx, param
        return [name for name in map(str, names) if name.startswith(incomplete)]

    return offered


def folders(ctx: Any, param: Any, incomplete: str) -> list[CompletionItem]:
    """What a shell offers where a folder is wanted."""
    del ctx, param
    return [CompletionItem(incomplete, type="dir")]
