"""Making very many objects that all stay, without a search for rubbish among them."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def all_stays() -> Iterator[None]:
    """Make objects of which none becomes rubbish.

    Python looks through everything there is each time that it has grown by a quarter:
    of the time that a study of 10,000 trials takes to open this is half.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
