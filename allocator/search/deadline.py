"""`--time`: a search ends with a recommendation within the seconds it was given.

Time is kept back for all that a recommendation needs: full precision, the uniform
allocations, what they are compared with and one finalist on the evaluation set, by the
seconds that a sample took so far. What may be left out (a proposal, finalized weights,
a round of refinement, tuning) begins where it seems to fit, and is given up as soon as
the rest of the time is needed for that.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

from allocator.core.clock import Clock
from allocator.core.errors import NotReachedError
from allocator.core.forecast import Savings
from allocator.core.records import RIVALS
from allocator.core.watch import Forwarding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allocator.bench.prepare import Setup
    from allocator.core.allocation import Allocation
    from allocator.core.watch import Tell, Watch
    from allocator.space.model import ModelSpace
    from allocator.study.journal import Journal
    from evals.subsets import Subsets

Found = TypeVar("Found")

# allocations beside the uniform ones that are measured on the evaluation set at least:
# the even mix, the additive optimum, one finalist
OTHERS = 3
# of the finalizations that are wanted, what has to fit for them to be begun: they share
# much, races stop early, and what does not fit is given up
HOPED = 0.5
# of an estimate; for what is worked out of the scores: of all seconds, and at most
MARGIN, CLOSING_SHARE, CLOSING = 1.15, 0.1, 60.0
# of all but full precision, so many see the whole evaluation set
LAST = 2
# attributes of a study: seconds that finalizing took, and tuning
FINALIZING = {
    "finalized": "seconds of finalizing",
    "tuned": "seconds of tuning",
}
# tuning takes so many times as long as finalizing, until it is known
TUNING = 4.0
# samples before their time says anything, and those scored last that tell how quick the
# machine is now
FEWEST, LATEST = 32, 256
# of a sample that is scored, what a look at one takes
LOOK = 0.5
# of all seconds, those between two looks at what is left
BETWEEN = 0.005
# of a part that tells how far it is, what has to be done before that says anything, and
# how many times as long as it will take it may then seem to take
ENOUGH, UNEVEN = 0.2, 2.0


class OutOfTimeError(Exception):
    """What may be left out is given up: the time that is left is needed."""


class Timed(Protocol):
    """What is asked of a search that has to end in time.

    `seconds` are what its parts took, `confirmed` tells by digest how many samples of
    the evaluation set were scored, `looks` which are scored first.
    """

    setup: Setup
    journal: Journal
    watch: Watch
    seconds: dict[str, float]
    confirmed: dict[str, int]
    looks: Subsets
    deadline: Deadline


@dataclass
class Deadline:
    """When a search has to end, and what it needs until then.

    `binding`: nothing can be recommended yet, so what does not fit ends the search.
    `others` are allocations beside the uniform ones that meet on the evaluation set.
    """

    clock: Clock
    seconds: float | None
    binding: bool = True
    others: int = OTHERS
    samples: int = 0
    scoring: float = 0.0
    _latest: deque[tuple[int, float]] = field(default_factory=deque)
    _step: float = 0.0
    _finalizes: bool | None = None
    _spends: bool = False
    _checked: float = 0.0

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return inf if self.seconds is None else self.seconds - self.clock.seconds

    @property
    def per_sample(self) -> float:
        """Seconds that scoring a sample takes; 0 while that is not known.

        As all took so far, or the latest, where these took longer.
        """
        if self.samples < FEWEST:
            return 0.0
        samples, seconds = map(sum, zip(*self._latest, strict=True))
        return max(self.scoring / self.samples, seconds / samples if samples else 0.0)

    @property
    def per_look(self) -> float:
        """Seconds that looking at a sample takes."""
        return LOOK * self.per_sample

    @property
    def closing(self) -> float:
        """Seconds for what is worked out of the scores."""
        return (
            0.0 if self.seconds is None else min(CLOSING, CLOSING_SHARE * self.seconds)
        )

    def scored(self, samples: int, seconds: float) -> None:
        """Note what scoring took; seconds without samples are what it takes besides."""
        self.samples += samples
        self.scoring += seconds
        self._latest.append((samples, seconds))
        while sum(n for n, _ in self._latest) - self._latest[0][0] >= LATEST:
            self._latest.popleft()

    def needed(self, search: Timed) -> float:
        """Seconds that a recommendation still takes at least."""
        space, sets = search.setup.space, search.setup.samples
        taken = search.journal.taken(space)
        wanted = [space.full, *fitting(space)]
        unmeasured = sum(a.digest not in taken for a in wanted)
        # without a budget rivals are as large as what is found
        unmeasured += 0 if search.setup.asked.budget else len(RIVALS)
        samples = unevaluated(search) + unmeasured * len(sets["search"])
        return samples * self.per_sample

    def is_reached(self, search: Timed, more: float = 0.0) -> bool:
        """Whether `more` seconds leave too little for a recommendation."""
        if self.seconds is None:
            return False
        return self.left - more < MARGIN * self.needed(search) + self.closing

    def check(self, search: Timed) -> None:
        """End a search that cannot come to a recommendation in time, or what may go.

        Raises:
            NotReachedError: says how much more time that would take.
            OutOfTimeError: inside of `attempt`.
        """
        if self.seconds is None or not (self.binding or self._spends):
            return
        if self.binding:
            needed = self.needed(search)
            needed += self.closing if needed else 0.0
            if needed > self.left:
                self.refuse(
                    f"take about {needed:.0f} s more" if needed else "take longer"
                )
        elif self.clock.seconds - self._checked > BETWEEN * self.seconds:
            self._checked = self.clock.seconds
            if self.is_reached(search):
                raise OutOfTimeError

    def attempt(self, work: Callable[[], Found]) -> Found | None:
        """Work that may be left out; None where the time that is left is needed."""
        before, self._spends = self._spends, True
        try:
            return work()
        except OutOfTimeError:
            return None
        finally:
            self._spends = before

    def with_or_without(self, search: Timed, work: Callable[[], Found]) -> Found:
        """Work that finalizes what it compares: done without where time is up.

        What was scored by then is kept, and is not scored again.
        """
        found = self.attempt(work)
        if found is not None:
            return found
        self.give_up_finalizing(search)
        return work()

    def check_start(self) -> None:
        """End a search whose time is over before anything is measured.

        Raises:
            NotReachedError: as `check` does.
        """
        if self.left < 0:
            self.refuse("take longer")

    def refuse(self, takes: str) -> NoReturn:
        """Say that there is no time for a recommendation, and what it takes."""
        raise NotReachedError(
            f"nothing can be recommended within --time {self.seconds:g}s: full "
            f"precision, the uniform allocations, two rivals and a finalist {takes} "
            f"({self.clock.seconds:.0f} s are over); what was measured is kept, and "
            "the same command with more --time goes on from there"
        )

    @contextmanager
    def step(self) -> Iterator[None]:
        """Note what a proposal takes, from the first look to its score."""
        since = Clock()
        yield
        self._step = max(self._step, since.seconds)

    def allows_step(self, search: Timed) -> bool:
        """Whether there is time for one more proposal."""
        first = self.per_sample * len(search.setup.samples["search"])
        return not self.is_reached(search, self._step or 2 * first)

    def finalists(self, search: Timed) -> int | None:
        """How many finalists there is time for, one at least; None for all."""
        one = self.per_sample * len(search.setup.samples["evaluation"])
        if self.seconds is None or not one:
            return None
        spare = self.left - MARGIN * self.needed(search)
        return 1 + max(0, int(spare / one))

    def finalizes(self, search: Timed, count: int | None = None) -> bool:
        """Whether there is time to finalize all that is compared: all or none.

        By default the winner, the best uniform allocation of each method and the two
        rivals; `count` says how many they are otherwise.
        """
        if self._finalizes is None:
            count = len(search.setup.asked.methods) + OTHERS if count is None else count
            total = Savings.racing * len(search.setup.samples["search"])
            scoring = MARGIN * total * self.per_sample
            each = self.takes(search) + scoring
            self._finalizes = not self.is_reached(search, HOPED * count * each)
            if not self._finalizes:
                search.watch.say("no time is left to finalize: the bank's cells count")
        return self._finalizes

    def give_up_finalizing(self, search: Timed) -> None:
        """Have the bank's cells count after all, and say so."""
        self._finalizes, self.others = False, OTHERS
        search.watch.say("time is up before all is finalized: the bank's cells count")

    def takes(self, search: Timed, weights: str = "finalized") -> float:
        """Seconds that finalizing an allocation takes, or tuning it.

        Known from what was made before, or guessed by the bank.
        """
        known = search.journal.attribute(FINALIZING[weights])
        if known is not None:
            return float(known)
        if weights == "tuned":
            return TUNING * self.takes(search)
        return search.seconds.get("bank", 0.0) / len(search.setup.asked.methods)

    def allows(
        self, search: Timed, count: int, weights: str = "finalized", looked: int = 0
    ) -> bool:
        """Whether there is time to finalize or tune so many more, and to score them.

        And to look at so many samples before.
        """
        if self.seconds is None:
            return True
        one = self.per_sample * len(search.setup.samples["search"])
        each = MARGIN * one + self.takes(search, weights)
        return not self.is_reached(search, count * each + looked * self.per_look)

    def finalized(
        self, search: Timed, seconds: float, weights: str = "finalized"
    ) -> None:
        """Note what finalizing an allocation took, or tuning it."""
        name = FINALIZING[weights]
        known = search.journal.attribute(name) or 0.0
        # where the weights are there it takes nothing
        if seconds > max(known, 1.0):
            search.journal.set_attribute(name, seconds)


def unevaluated(search: Timed) -> int:
    """Samples of the evaluation set that a recommendation still needs at least.

    Full precision and LAST others see everything, all that are compared the first look.
    """
    space, first, whole = search.setup.space, search.looks.sizes[0], search.looks.total
    done = dict(search.confirmed)
    full = done.pop(space.full.digest, 0)
    uniform = [done.pop(a.digest, 0) for a in fitting(space)]
    beside = sorted(done.values(), reverse=True)
    others = beside + [0] * max(1, search.deadline.others - len(beside))
    counts = sorted([*uniform, *others], reverse=True)
    wanted = [whole] * LAST + [first] * len(counts)
    missing = (max(0, a - b) for a, b in zip(wanted, counts, strict=False))
    return whole - full + sum(missing)


def fitting(space: ModelSpace) -> list[Allocation]:
    """Uniform allocations that are always measured."""
    return [each for each in space.uniform if space.fits(each)]


@dataclass(frozen=True)
class Watched(Forwarding):
    """A watch that ends what cannot come to an end in time.

    Of a part before anything can be recommended, what it has left follows from what it
    took so far: it is not begun in vain.
    """

    search: Timed

    @contextmanager
    def phase(self, name: str) -> Iterator[Tell]:
        """Open a phase; each step it is told of looks at the time."""
        since, first = Clock(), [-1]
        deadline = self.search.deadline
        with self.watch.phase(name) as told:

            def tell(done: int, total: int, note: str = "", /) -> None:
                told(done, total, note)
                deadline.check(self.search)
                first[0] = done if first[0] < 0 else first[0]
                new, rest = done - first[0], total - done
                if deadline.binding and new >= ENOUGH * (total - first[0]) > 0:
                    takes = since.seconds * rest / new
                    if takes > UNEVEN * deadline.left:
                        deadline.refuse(f"take about {takes:.0f} s more")

            yield tell
