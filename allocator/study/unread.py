"""What a study keeps and this program did not write: refused in one sentence."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from allocator.core.errors import AllocateError, StudyError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

# what plain data of another shape raises where it is read
OF_SHAPE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
# characters of what was wrong
SHOWN = 100


@contextmanager
def as_written(what: str, name: str) -> Iterator[None]:
    """Read what a study keeps, as this program has written it.

    Args:
        what: is read, for the sentence.
        name: the study's.

    Raises:
        StudyError: it is of another shape: damaged, or somebody else's.
    """
    try:
        yield
    except AllocateError:
        raise
    except OF_SHAPE as error:
        raise StudyError(
            f"study {name!r} keeps {what} in a form that no version of this program "
            f"has written ({type(error).__name__}: {first_line(error):.{SHOWN}}): it "
            "is damaged, or another program's; choose another --study"
        ) from error
