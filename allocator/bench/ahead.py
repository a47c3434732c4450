"""Made by threads while a model runs: what it reads next."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, TypeVar

from allocator.core.waiting import HEEDING, Heeding

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from concurrent.futures import Future


class LeftError(Exception):
    """Nobody wants any more what a thread waits for."""


Asked = TypeVar("Asked")
Made = TypeVar("Made")


def made_ahead(
    asked: Iterable[Asked], makers: Sequence[Callable[[Asked], Made]]
) -> Generator[tuple[Asked, Callable[[], Made]], None, None]:
    """What is asked for in turn, and a function that gives what was made of it.

    An error in a thread is raised where that is called. Close it to leave no thread
    behind: what has not begun never does, and what waits for a file ends there.

    Args:
        asked: in the order in which it is wanted.
        makers: of one thread each; none makes two things at a time.
    """
    left, heeded = Event(), HEEDING.get()

    def check() -> None:
        if left.is_set():
            raise LeftError
        heeded.check()

    own = (Heeding(heeded.say, check),)
    pools = [
        ThreadPoolExecutor(1, "ahead", initializer=HEEDING.set, initargs=own)
        for _ in makers
    ]
    waiting: deque[tuple[Asked, Future[Made]]] = deque()
    try:
        for number, each in enumerate(asked):
            at = number % len(pools)
            waiting.append((each, pools[at].submit(makers[at], each)))
            # each thread makes one, and has made another
            if len(waiting) > 2 * len(pools):
                first, future = waiting.popleft()
                yield first, future.result
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result
    finally:
        left.set()
        for pool in pools:
            pool.shutdown(wait=True, cancel_futures=True)
