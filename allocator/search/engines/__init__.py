"""Engines: who else does pieces of a search, started by it; a file for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from allocator.core.errors import SpecError, UnknownNameError
from allocator.core.plugins import available, load

if TYPE_CHECKING:
    from allocator.bench.prepare import Setup
    from allocator.core.study import StudySpec
    from allocator.core.watch import Watch
    from allocator.search.crew.crew import Source
    from allocator.study.journal import Journal

# which is no file: nobody is started
NONE = "none"
PACKAGE = "allocator.search.engines"


class Engine(Protocol):
    """Gives a search hands, for as long as it goes on."""

    def check(self, asked: StudySpec) -> None:
        """Refuse what cannot be had here, before anything is loaded.

        Raises:
            SpecError: says what is missing.
        """

    def source(self, setup: Setup, journal: Journal, watch: Watch) -> Source:
        """Where the hands of a search come from.

        Raises:
            SpecError: there are none, or they would measure something else.
        """


def engine_names() -> tuple[str, ...]:
    """All that can be asked for."""
    return (NONE, *available(PACKAGE))


def engine_of(asked: StudySpec) -> Engine | None:
    """The engine that is asked for, if any, which can be had.

    Raises:
        UnknownNameError: there is none of that name.
        SpecError: it cannot be had here.
    """
    if asked.engine not in engine_names():
        raise UnknownNameError("engine", asked.engine, engine_names())
    if asked.ray_address is not None and asked.engine != "ray":
        raise SpecError(
            f"the Ray cluster at {asked.ray_address!r} is of use to engine ray alone, "
            f"not to {asked.engine!r}"
        )
    if asked.engine == NONE:
        return None
    engine: Engine = load(PACKAGE, asked.engine, "engine")
    engine.check(asked)
    return engine


def sources_of(setup: Setup, journal: Journal, watch: Watch) -> list[Source]:
    """Where the hands of a search come from, beside workers that join.

    Raises:
        SpecError: the engine that is asked for cannot be had.
    """
    engine = engine_of(setup.asked)
    return [] if engine is None else [engine.source(setup, journal, watch)]
