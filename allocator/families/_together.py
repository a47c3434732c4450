"""A context that several threads are in at once: the first enters, the last leaves."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@dataclass
class Together:
    """Enters what `make` gives once for all threads that are in it.

    For what is changed for a whole process: each thread by itself would put back what
    another has changed.
    """

    make: Callable[[], AbstractContextManager[object]]
    lock: Any = field(default_factory=Lock)
    inside: int = 0
    entered: Any = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Be in it."""
        with self.lock:
            if not self.inside:
                self.entered = self.make()
                self.entered.__enter__()
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.entered.__exit__(None, None, None)
