"""Storages that go and come back, for tests."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from allocator.study import storage
from allocator.study.once import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine


@pytest.fixture
def closed() -> Iterator[None]:
    """Close connections to servers: drivers complain of those that are forgotten."""
    engines: list[Engine] = []

    class Noted(Database):
        def __init__(self, *given: Any, **more: Any) -> None:
            super().__init__(*given, **more)
            engines.append(self.engine)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "Database", Noted)
        yield
    for engine in engines:
        engine.dispose()


@contextmanager
def away(folder: Path, seconds: float | None = None) -> Iterator[None]:
    """A folder that is not there, for a while or to the end."""
    elsewhere = folder.with_name(f"{folder.name}.away")
    folder.rename(elsewhere)

    def back() -> None:
        if elsewhere.exists():
            elsewhere.rename(folder)

    timer = threading.Timer(seconds or 0, back)
    if seconds:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if seconds:
            timer.join()
        back()
