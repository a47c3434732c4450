"""A search and its crew as discrete events: who is given what, and when it is back.

Follows the code of the crew: the leading process takes pieces from the front of the
row, a thread of its own reads all mailboxes at once, gives each free worker a part of
what is left from the back, and waits a tenth of the time in which nothing happened;
workers poll their mailboxes alike. A worker's death shows when its lease has run out, a
leader's when a worker sees that, which then resumes at the beginning of the stage that
was under way.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from studies.scale.crew_work import taken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from studies.scale.crew_work import Piece, Stage

# of the code: seconds between two looks of the leader, and of a worker, least and most;
# the share of idle time; looks at the leader, renewals of leases, their end
SHORTEST, SHARE = 0.005, 0.1
LEADER_WAITS, WORKER_WAITS = 0.25, 0.5
LEADS, RENEWED, EXPIRES = 1.0, 15.0, 60.0
# a hand is given one of so many parts of what is left to a head
PARTS = 2
# of a server's processors, what is used before operations queue
BUSY = 0.9


@dataclass(frozen=True)
class Costs:
    """What the storage takes, in seconds, and what the cluster is like.

    Attributes:
        read: of one record, by its process.
        write: of one attribute.
        read_all: of all records, for each worker there is; and beside.
        served: of the server's processor for an operation; for a record read of many.
        cores: of the server.
        late: the last worker is started so long after the leader.
        start: until a process has loaded the model.
        deaths: of a process, an hour.
        jitter: spread of the logarithm of a piece's seconds.
        most: pieces given at once at most; None: as many as the code gives.
    """

    read: float = 0.004
    write: float = 0.004
    read_all: tuple[float, float] = (0.0002, 0.008)
    served: tuple[float, float] = (0.0005, 0.00002)
    cores: int = 8
    late: float = 120.0
    start: float = 30.0
    deaths: float = 0.01
    jitter: float = 0.1
    most: int | None = None


@dataclass
class Worker:
    """One that serves: when it is ready and dies, what it last had in place."""

    ready: float
    dies: float
    last: int = -1
    heard: float = 0.0
    counted: float = 0.0
    back: float = math.inf
    away: list[Piece] = field(default_factory=list)


@dataclass
class Outcome:
    """Seconds at which stages ended, and what happened.

    `stages` are (name, begin, end, seconds of devices at work, operations of the
    storage, server seconds); `scores` are (seconds, scores known from then on).
    """

    stages: list[tuple[str, float, float, float, float, float]] = field(
        default_factory=list
    )
    scores: list[tuple[float, int]] = field(default_factory=list)
    given: int = 0
    lost: int = 0
    leaders: int = 1

    @property
    def seconds(self) -> float:
        """Of the whole search."""
        return self.stages[-1][2]


class Simulated:
    """One search.

    Args:
        stages: of its work.
        workers: processes with a device, the leading one among them.
        costs: of the storage and the cluster.
        seed: of starts, deaths and jitter.
        leader_dies: seconds after which the leader dies for certain.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        workers: int,
        costs: Costs,
        seed: int,
        leader_dies: float | None = None,
    ) -> None:
        self.work, self.costs = stages, costs
        self.rng = np.random.default_rng([seed, workers])
        late = self.rng.uniform(0, costs.late, workers - 1)
        rate = costs.deaths / 3600
        lives = self.rng.exponential(1 / rate if rate else math.inf, workers)
        if not rate:
            lives = np.full(workers, math.inf)
        ready = late + costs.start
        self.crew = [
            Worker(float(at), float(at + life), heard=float(at))
            for at, life in zip(ready, lives[1:], strict=True)
        ]
        self.leader_dies = float(lives[0]) if leader_dies is None else leader_dies
        self.told = Outcome()
        self.last = -1
        self.operations = self.served = self.at_work = 0.0

    def run(self) -> Outcome:
        """From the start to the end."""
        now, scores = self.costs.start, 0
        for stage in self.work:
            begun = now
            self.operations = self.served = self.at_work = 0.0
            now = self._stage(stage, now)
            if now > self.leader_dies:
                now = self._stage(stage, self._followed())
            self._idle(begun, now)
            kept = self.at_work, self.operations, self.served
            self.told.stages.append((stage.name, begun, now, *kept))
            if stage.proposals:
                scores += stage.proposals
                self.told.scores.append((now, scores))
        return self.told

    def _followed(self) -> float:
        """When a worker has taken the place of a leader that died."""
        died, self.leader_dies = self.leader_dies, math.inf
        self.told.leaders += 1
        living = [each for each in self.crew if each.ready <= died < each.dies]
        # without a worker, somebody starts the command again, a lease later
        wait = EXPIRES if living else EXPIRES + self.costs.start
        if living:
            self.crew.remove(living[0])
        # everyone opens a bench for who leads now
        for each in self.crew:
            each.away, each.back = [], math.inf
            each.ready = max(each.ready, died + wait + self.costs.start)
        return died + wait + self.costs.start

    def _stage(self, stage: Stage, now: float) -> float:
        """When a stage that begins now has ended."""
        if not stage.is_shared:
            return now + self._own(stage.pieces)
        now += stage.alone
        if stage.joined:
            return self._joined(stage, now)
        return self._row(stage, now)

    def _joined(self, stage: Stage, now: float) -> float:
        """Pieces that each process takes by itself once it has joined."""
        free = [now + stage.joined]
        free += [
            max(now, w.ready) + stage.joined for w in self.crew if w.dies > now + 60
        ]
        heapq.heapify(free)
        end = now
        for piece in stage.pieces:
            done = heapq.heappop(free) + self._jittered([piece])
            end = max(end, done)
            heapq.heappush(free, done)
            self.at_work += piece.seconds
        for each in self.crew:
            # who comes later opens what is there
            each.ready = max(each.ready, end)
            each.heard = max(each.heard, each.ready)
        return end

    def _row(self, stage: Stage, now: float) -> float:
        """Pieces that the leader gives away, and does."""
        row, done = deque(stage.pieces), 0
        own, look, since = now, now, now
        held: Piece | None = None
        while done < len(stage.pieces):
            if own <= look:
                if held is not None:
                    done, held = done + 1, None
                    end = own
                if row:
                    held = row.popleft()
                    own += self._jittered([held], self.last)
                    self.last = held.allocation
                    self.at_work += held.seconds
                else:
                    own = math.inf
                if done == len(stage.pieces):
                    return end
                continue
            came, gave, look_end = self._look(row, look)
            done += came
            end = look_end
            if row and math.isinf(own):
                own = look_end
            if came or gave:
                since = look_end
            idle = SHARE * (look_end - since)
            look = look_end + min(LEADER_WAITS, max(SHORTEST, idle))
        return end

    def _look(self, row: deque[Piece], now: float) -> tuple[int, int, float]:
        """Read all mailboxes, take what is back, give what is left."""
        costs, hands = self.costs, [w for w in self.crew if w.ready <= now]
        waits = self._waits(hands, now)
        at, came, gave = now + waits + costs.read_all[1], 0, 0
        at += costs.read_all[0] * len(hands)
        self._count(1, costs.served[0] + costs.served[1] * len(hands))
        for each in list(hands):
            if each.back <= now:
                came += len(each.away)
                self.at_work += sum(piece.seconds for piece in each.away)
                each.away, each.heard, each.counted = [], each.back, each.back
                each.back = math.inf
            elif each.dies + EXPIRES <= now:
                row.extend(each.away)
                self.told.lost += len(each.away)
                self.crew.remove(each)
                hands.remove(each)
        for each in hands:
            if each.away or not row:
                continue
            count = max(1, len(row) // (PARTS * (len(hands) + 1)))
            count = min(count, costs.most or count)
            at += costs.write + waits
            self._give(each, [row.pop() for _ in range(count)][::-1], at, waits)
            gave += count
        self.told.given += gave
        return came, gave, at

    def _waits(self, hands: Sequence[Worker], now: float) -> float:
        """Seconds that an operation queues, where polls are more than is served.

        As many of the idle ask at a time as keeps the server at `BUSY` of what it can.
        """
        gaps = [_gap(now - each.heard) for each in hands if not each.away]
        if not gaps:
            return 0.0
        each_takes = len(gaps) * self.costs.served[0] / (BUSY * self.costs.cores)
        mean = sum(gaps) / len(gaps) + self.costs.read
        return max(0.0, each_takes - mean)

    def _give(
        self, worker: Worker, pieces: list[Piece], at: float, waits: float
    ) -> None:
        """A letter is written; the worker finds it, works, answers."""
        gap = _gap(at - worker.heard) + waits
        found = at + self.rng.uniform(0, gap) + self.costs.read
        self._polled(worker, found)
        back = found + self._jittered(pieces, worker.last) + self.costs.write + waits
        worker.last = pieces[-1].allocation
        worker.away = pieces
        # one that dies before it answers never does
        worker.back = back if back < worker.dies else math.inf
        self._count(2, 2 * self.costs.served[0])

    def _polled(self, worker: Worker, until: float) -> None:
        """Count a worker's looks into its mailbox, and at its leader, until then."""
        since = max(worker.counted, worker.heard)
        if until <= since:
            return
        polls = self._polls(until - worker.heard) - self._polls(since - worker.heard)
        polls += (until - since) / LEADS
        worker.counted = until
        self._count(polls, polls * self.costs.served[0])

    def _polls(self, idle: float) -> float:
        """Looks into a mailbox in so many seconds without a letter."""
        few, whole = SHORTEST / SHARE, WORKER_WAITS / SHARE
        polls = min(idle, few) / (SHORTEST + self.costs.read)
        if idle > few:
            polls += math.log(min(idle, whole) / few) / math.log(1 + SHARE)
        return polls + max(0.0, idle - whole) / WORKER_WAITS

    def _idle(self, begun: float, now: float) -> None:
        """Count what idle workers asked in a stage, and leases."""
        for each in self.crew:
            if not each.away and each.ready < now:
                self._polled(each, now)
        renewals = (len(self.crew) + 1) * (now - begun) / RENEWED
        self._count(renewals, renewals * self.costs.served[0])

    def _count(self, operations: float, served: float) -> None:
        self.operations += operations
        self.served += served

    def _own(self, pieces: Sequence[Piece]) -> float:
        taken_ = self._jittered(pieces, self.last)
        self.last = pieces[-1].allocation
        self.at_work += sum(piece.seconds for piece in pieces)
        return taken_

    def _jittered(self, pieces: Iterable[Piece], before: int = -1) -> float:
        """Seconds of some pieces on a device that is now faster, now slower."""
        factor = self.rng.lognormal(0, self.costs.jitter)
        return float(factor) * taken(pieces, before)


def _gap(idle: float) -> float:
    """Seconds between two looks of a worker that has had nothing for so long."""
    return min(WORKER_WAITS, max(SHORTEST, SHARE * idle))
