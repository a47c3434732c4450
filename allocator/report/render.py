"""Which file a report becomes: a page, or one figure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError, UnknownNameError
from allocator.report.output import check_output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

PAGE = "html"
FORMATS = (PAGE, "png", "svg")


def render(
    out: Path, fmt: str | None = None, figure: str | None = None
) -> Callable[[Mapping[str, Any]], None]:
    """What writes a report's data into a file; everything is checked before.

    Args:
        out: the file to write.
        fmt: html for a page, png or svg for a figure; None goes by the file's ending.
        figure: which figure, front where None.

    Raises:
        SpecError: a file that cannot be written, a format that there is none of, or a
            figure asked of a page.
        UnknownNameError: a figure that there is none of.
    """
    kind = fmt or out.suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        given = f"--format {fmt}" if fmt else f"{out.name!r} without --format"
        raise SpecError(f"{given} is not one of {', '.join(FORMATS)}")
    check_output(out)
    if kind == PAGE:
        if figure is not None:
            raise SpecError(
                f"--figure {figure} goes with --format png or svg; a page has them all"
            )
        from allocator.report.page import write_page

        return partial(write_page, out=out)
    from allocator.report.figures import FIGURES, write_figure

    name = figure or FIGURES[0]
    if name not in FIGURES:
        raise UnknownNameError("figure", name, FIGURES)
    return partial(write_figure, name=name, out=out, fmt=kind)
