"""What a search is about to ask of its bench, done by its crew before it asks.

The search itself goes on as if it were alone: where it asks, the answer is there. What
was done is known by the cells that were in place, and batches are those that this
process would have run: so it is the same, whoever did it, or it is not taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from allocator.bench.finalize import BANK, FAILED
from allocator.bench.replies import name_of_replies
from allocator.core.clock import Clock
from allocator.core.own import refers_to_itself
from evals.taskset import TaskSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from allocator.bench.pieces import Pieces
    from allocator.bench.workbench import Workbench
    from allocator.core.allocation import Allocation, Choice
    from allocator.core.ports import Sample, Split, Task
    from allocator.search.crew.crew import Crew, Found, Piece
    from allocator.search.replies import KeptReplies

    At = tuple[str, Choice]
    # an allocation, the samples it is to reply to, and its weights
    Wanted = tuple[Allocation, Sequence[Sample], str]

Each = TypeVar("Each")

# pieces for each head that are worth giving away at once
ENOUGH = 3


@dataclass
class Job:
    """The batches of one evaluation, some of which were replied to before."""

    allocation: Allocation
    task: Task
    samples: Sequence[Sample]
    plan: list[list[int]]
    weights: str
    name: str = ""
    applied: str = ""
    found: dict[int, Found] = field(default_factory=dict)
    before: tuple[list[Any], int] = ([], 0)

    @property
    def left(self) -> list[int]:
        """Numbers of the batches that were not replied to before."""
        starts, done = 0, len(self.before[0])
        left = []
        for number, places in enumerate(self.plan):
            if starts >= done:
                left.append(number)
            starts += len(places)
        return left

    def so_far(self) -> tuple[list[Any], int]:
        """Replies of the first batches, all that are known without a gap."""
        replies, cut = list(self.before[0]), self.before[1]
        for number in self.left:
            if number not in self.found:
                break
            replies += self.found[number]["replies"]
            cut += self.found[number]["cut"]
        return replies, cut

    def take(self, number: int, found: Found) -> None:
        """Take note of a batch; what other cells replied does not count."""
        self.applied = self.applied or found.get("applied", "")
        if FAILED not in found and found["applied"] == self.applied:
            self.found[number] = found


@dataclass
class Ahead:
    """Has a crew do what is about to be asked for.

    `replies` is asked for the replies then; `check` is called now and then, and what it
    raises ends the work.
    """

    crew: Crew
    pieces: Pieces
    replies: KeptReplies
    check: Callable[[], object]
    _looks: dict[Any, float] = field(default_factory=dict)

    def portions(
        self, items: Sequence[Each], split: Split | None = None
    ) -> Iterator[Sequence[Each]]:
        """Items as many at once as keep all busy; all, where nobody else is there.

        What was done of a portion is safe only when the search has asked for it.

        Args:
            items: what is to be done.
            split: the samples that each is asked for, batch by batch; None: each is one
                piece.
        """
        if not self.crew.size:
            yield items
            return
        samples = self.pieces.setup.samples[split] if split else ()
        each = len(self.pieces.bench.plan(samples)) if samples else 1
        count = -(-ENOUGH * (1 + self.crew.size) // each)
        for at in range(0, len(items), count):
            yield items[at : at + count]

    def replies_of(self, wanted: Sequence[Wanted]) -> None:
        """Replies of several evaluations, batch by batch."""
        if not self.crew.size:
            return
        since = Clock()
        jobs = [job for each in wanted for job in self._jobs(*each)]
        owners = [(job, number) for job in jobs for number in job.left]
        if len(owners) < 2:
            return
        pieces = [self._batch(job, number) for job, number in owners]
        for place, found, _ in self._done(pieces):
            job, number = owners[place]
            job.take(number, found)
            if job.name:
                self.replies.gather(job.name, *job.so_far())
            self.check()
        whole = [job for job in jobs if len(job.so_far()[0]) == len(job.samples)]
        total = sum(len(job.samples) for job in jobs)
        for job in whole:
            name = name_of_replies(job.applied, job.task, job.samples, job.plan)
            share = since.seconds * len(job.samples) / total
            self.replies.given[name] = (*job.so_far(), share)

    def looks_at(
        self,
        allocations: Sequence[Allocation],
        samples: Sequence[Sample],
        *,
        fine: bool = False,
    ) -> None:
        """Looks at allocations, in their order of execution."""
        if not self.crew.size:
            return
        bench = self.pieces.bench_of(fine=fine)
        new = [
            each
            for each in allocations
            if self._key(bench.applied(each), each, samples) not in self._looks
        ]
        if len(new) < 2:
            return
        pieces = [self.pieces.look(each, samples, fine=fine) for each in new]
        for place, found, by_hand in self.crew.done(
            pieces, self.pieces.done, self.check
        ):
            key = self._key(found["applied"], new[place], samples)
            value = found["value"]
            self._looks[key] = float("nan") if value is None else value
            if by_hand:
                self.pieces.bench.cost.looked += len(samples)
            self.check()

    def look(
        self, bench: Workbench, allocation: Allocation, samples: Sequence[Sample]
    ) -> float | None:
        """A look that was taken ahead, once; None where it was not."""
        if not self._looks:
            return None
        key = self._key(bench.applied(allocation), allocation, samples)
        return self._looks.pop(key, None)

    def probes(
        self,
        bench: Workbench,
        samples: Sequence[Sample],
        wanted: Sequence[At],
        found: dict[At, float],
        tick: Callable[[int], object],
        *,
        fine: bool = False,
    ) -> None:
        """Probes of single groups that are not among those found, which they join."""
        if not self.crew.size:
            return
        full = self.pieces.setup.space.full.over(self.pieces.setup.model, bench.spec)
        lacking = [at for at in wanted if at not in found]
        lacking.sort(key=lambda at: bench.depths[at[0]])
        probes = [full.replace(dict([at])) for at in lacking]
        pieces = [self.pieces.probe(each, samples, fine=fine) for each in probes]
        for place, out, by_hand in self._done(pieces):
            if out["applied"] != bench.applied(probes[place]):
                continue
            value = out["value"]
            found[lacking[place]] = float("nan") if value is None else value
            if by_hand:
                bench.cost.looked += len(samples)
            tick(len(found))

    def _done(self, pieces: Sequence[Piece]) -> Iterator[tuple[int, Found, bool]]:
        return self.crew.done(pieces, self.pieces.done, self.check)

    def _jobs(
        self, allocation: Allocation, samples: Sequence[Sample], weights: str
    ) -> list[Job]:
        bench, found = self.pieces.bench, list[Job]()
        if refers_to_itself(bench.task) and allocation == self.pieces.setup.space.full:
            # its replies are the references
            return found
        for task, own in _parts(bench.task, samples):
            if task.needs != "reply":
                continue
            plan = bench.plan(own)
            job = Job(allocation, task, own, plan, weights)
            if weights == BANK:
                job.applied = bench.applied(allocation)
                job.name = name_of_replies(job.applied, task, own, plan)
                if job.name in self.replies.given:
                    continue
                job.before = self.replies.known.get(job.name, ([], 0))
            found.append(job)
        return found

    def _batch(self, job: Job, number: int) -> Piece:
        batch = [job.samples[place] for place in job.plan[number]]
        return self.pieces.replies(job.allocation, job.task.name, batch, job.weights)

    @staticmethod
    def _key(
        applied: str, allocation: Allocation, samples: Sequence[Sample]
    ) -> tuple[str, str, tuple[str, ...]]:
        return applied, allocation.digest, tuple(sample.id for sample in samples)


def _parts(
    task: Task | TaskSet, samples: Sequence[Sample]
) -> list[tuple[Task, Sequence[Sample]]]:
    """The samples of each task."""
    return list(task.parts(samples)) if isinstance(task, TaskSet) else [(task, samples)]
