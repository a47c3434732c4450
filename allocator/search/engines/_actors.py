"""Actors of Ray as hands: started, made ready, asked, and started again.

An actor is first asked where it is. The one that sits where the leader does stays idle:
the leader computes there. All others open their benches, and are hands from then on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allocator.core.errors import reason
from allocator.search.crew.crew import HandError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allocator.core.watch import Watch

# how often another is started in a place where they die
AGAIN = 3
STARTS, OPENS, READY, IDLE = "starts", "opens", "ready", "idle"


@dataclass(frozen=True)
class Seat:
    """Where a process is: its node, the accelerators it has; itself, for people."""

    node: str
    gpus: tuple[str, ...]
    shown: str


@dataclass(eq=False)
class Actor:
    """One actor: `answer` is what it was asked last and has not been heard of."""

    handle: Any
    answer: Any
    deaths: int = 0
    stage: str = STARTS
    name: str = "a Ray actor"
    given: int = 0
    said: dict[str, Any] | None = None

    def give(self, pieces: Sequence[dict[str, Any]]) -> None:
        """Have some pieces done."""
        self.given, self.said = len(pieces), None
        self.answer = self.handle.done.remote(list(pieces))

    def found(self) -> Sequence[dict[str, Any]] | None:
        """What came out of what was given last, None while it is not known.

        Raises:
            HandError: it cannot be done there.
        """
        if self.said is None:
            return None
        found: list[dict[str, Any]] = self.said.get("found", [])
        if why := self.said.get("failed"):
            raise HandError(str(why))
        if len(found) != self.given:
            raise HandError(f"it gave {len(found)} results for {self.given} pieces")
        return found


@dataclass
class Actors:
    """The actors of a search.

    Attributes:
        make: starts one.
        opening: what one is told to get ready, once the references are known.
        own: where the leader sits.
        watch: is told what happens to them.
        end: leaves Ray.
    """

    make: Callable[[], Any]
    opening: Callable[[], Any]
    own: Seat
    watch: Watch
    end: Callable[[], object]
    _all: list[Actor] = field(default_factory=list)
    _sits: bool = False

    def begin(self, count: int) -> None:
        """Start so many, one where the leader sits among them."""
        self._all = [self._started(0) for _ in range(count)]

    def hands(self) -> Sequence[Actor]:
        """Those that are ready; dead ones are replaced."""
        for place, actor in enumerate(self._all):
            if actor.stage != IDLE and actor.answer is not None:
                self._hear(place, actor)
        return [actor for actor in self._all if actor.stage == READY]

    def close(self) -> None:
        """Let all go, and leave Ray."""
        import ray

        try:
            for actor in self._all:
                ray.kill(actor.handle)
        finally:
            self.end()

    def _started(self, deaths: int) -> Actor:
        handle = self.make()
        return Actor(handle, handle.seat.remote(), deaths)

    def _hear(self, place: int, actor: Actor) -> None:
        """Take note of what an actor says, if it does."""
        import ray
        from ray.exceptions import RayActorError, RayError

        if not ray.wait([actor.answer], timeout=0)[0]:
            return
        try:
            said = ray.get(actor.answer)
        except RayActorError as error:
            self._died(place, actor, error)
            return
        except RayError as error:
            said = self._unusual(actor, error)
        actor.answer = None
        if actor.stage == READY:
            actor.said = said
        elif actor.stage == OPENS:
            self._opened(actor, said)
        elif actor.stage == STARTS:
            self._seated(actor, said)

    def _seated(self, actor: Actor, seat: Seat) -> None:
        actor.name = f"Ray actor {seat.shown}"
        is_own = seat.node == self.own.node and seat.gpus == self.own.gpus
        if is_own and not self._sits:
            actor.stage, self._sits = IDLE, True
            return
        actor.stage, actor.answer = OPENS, actor.handle.open.remote(self.opening())

    def _opened(self, actor: Actor, why: str) -> None:
        actor.stage = IDLE if why else READY
        if why:
            self.watch.say(f"{actor.name} does nothing: {why}")

    def _unusual(self, actor: Actor, error: Exception) -> Any:
        """What it is that an actor says where Ray speaks for it."""
        why = reason(error)
        if actor.stage == STARTS:
            # what it is made of is not there, say
            self._opened(actor, why)
        return {"failed": why} if actor.stage == READY else why

    def _died(self, place: int, actor: Actor, error: Exception) -> None:
        was, actor.stage = actor.stage, IDLE
        if was != READY:
            self.watch.say(f"{actor.name} died before it was ready: {reason(error)}")
        if actor.deaths < AGAIN:
            self._all[place] = self._started(actor.deaths + 1)
        else:
            self.watch.say(f"{actor.name} was the last one started in its place")
