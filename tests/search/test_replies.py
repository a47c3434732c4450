from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench.halving import Halving
from allocator.bench.replies import predict
from allocator.core.ports import Decoding
from allocator.search import replies as room
from allocator.search.replies import EVERY, REPLIES, KeptReplies
from allocator.study.journal import Journal
from tests.searches import samples

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = samples(40, "s")
TASK: Any = SimpleNamespace(name="vqav2", needs="reply")
SIZE = 8


class Replying:
    """A model whose replies name their sample and batch; every ninth is cut off."""

    def __init__(self, last: int = 10**9) -> None:
        self.asked: list[str] = []
        self.cut_off, self.last = 0, last

    def predict(self, states: Any, some: Any, decoding: Any, tick: Any) -> list[str]:
        del decoding
        found: list[str] = []
        self.cut_off = 0
        for batch in states:
            if len(self.asked) >= self.last:
                raise KeyboardInterrupt
            self.asked += [sample.id for sample in batch]
            found += [f"{each.id} beside {batch[0].id}" for each in batch]
            self.cut_off += sum(int(each.id[1:]) % 9 == 0 for each in batch)
            tick(len(found))
        assert len(found) == len(some)
        return found


class Bench:
    """Puts its samples into batches from the last to the first."""

    def __init__(
        self, model: Replying, keeper: KeptReplies | None, cells: str, size: int
    ) -> None:
        self.model, self.keeper, self.cells, self.size = model, keeper, cells, size
        self.halving = Halving()

    def applied(self, _: Any) -> str:
        return self.cells

    def plan(self, some: Any) -> list[list[int]]:
        places = list(range(len(some)))[::-1]
        return [places[at : at + self.size] for at in range(0, len(some), self.size)]

    def ahead(self, batches: Any) -> Any:
        yield from ((batch, partial(list, batch)) for batch in batches)

    def prefixed(self, batch: Any, given: Any = None) -> Any:
        assert given in (None, batch)
        return batch

    def read(self, some: Any) -> Any:
        yield from [some[at : at + self.size] for at in range(0, len(some), self.size)]


def asked(
    model: Replying, keeper: KeptReplies | None, cells: str = "a", size: int = SIZE
) -> Any:
    ticks: list[int] = []
    allocation: Any = None
    bench: Any = Bench(model, keeper, cells, size)
    found = predict(bench, allocation, TASK, SAMPLES, Decoding(10), ticks.append)
    assert ticks == sorted(ticks)
    assert ticks[-1] == len(SAMPLES)
    return found


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.create(f"{tmp_path}/studies.log", "first", "identity", {})


class Slow:
    """A clock by which each batch takes half a minute."""

    def __init__(self) -> None:
        self.reads = 0

    @property
    def seconds(self) -> float:
        self.reads += 1
        return 30.0 * self.reads


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "Clock", Slow)


def kept(journal: Journal) -> list[Any]:
    return [each for each in journal.attributes(REPLIES) if each]


@pytest.mark.usefixtures("slow")
def test_an_evaluation_that_was_killed_goes_on_with_equal_replies(
    journal: Journal,
) -> None:
    whole = asked(Replying(), None)
    with pytest.raises(KeyboardInterrupt):
        asked(Replying(last=32), KeptReplies(journal, lambda *_: None))
    (found,) = kept(journal)
    # those of whole batches, and of the last minute none
    assert len(found["replies"]) == 24
    again = Replying()
    assert asked(again, KeptReplies(journal, lambda *_: None)) == whole
    assert again.asked == [sample.id for sample in SAMPLES[:16][::-1]]
    # what is finished is not kept twice
    assert kept(journal) == []


@pytest.mark.usefixtures("slow")
def test_replies_of_other_cells_are_others(journal: Journal) -> None:
    with pytest.raises(KeyboardInterrupt):
        asked(Replying(last=32), KeptReplies(journal, lambda *_: None))
    again = Replying()
    asked(again, KeptReplies(journal, lambda *_: None), "b")
    assert len(again.asked) == len(SAMPLES)


@pytest.mark.usefixtures("slow")
def test_replies_in_batches_of_another_size_are_others(journal: Journal) -> None:
    with pytest.raises(KeyboardInterrupt):
        asked(Replying(last=32), KeptReplies(journal, lambda *_: None))
    again = Replying()
    asked(again, KeptReplies(journal, lambda *_: None), size=10)
    assert len(again.asked) == len(SAMPLES)


def test_replies_come_in_the_order_of_their_samples() -> None:
    found, _ = asked(Replying(), None)
    assert [reply.split()[0] for reply in found] == [each.id for each in SAMPLES]


def test_a_short_evaluation_writes_nothing(journal: Journal) -> None:
    assert EVERY <= 120
    asked(Replying(), KeptReplies(journal, lambda *_: None))
    assert journal.attributes(REPLIES) == []


def test_what_ends_an_evaluation_between_batches_loses_none_of_them(
    journal: Journal,
) -> None:
    told: list[int] = []

    def ends(done: int, seconds: float) -> None:
        assert seconds >= 0
        told.append(done)
        if len(told) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        asked(Replying(), KeptReplies(journal, ends))
    assert told == [SIZE] * 3
    again = Replying()
    assert asked(again, KeptReplies(journal, lambda *_: None)) == asked(
        Replying(), None
    )
    assert len(again.asked) == len(SAMPLES) - 3 * SIZE


def test_rankings_are_made_as_a_whole(journal: Journal) -> None:
    ranking: Any = SimpleNamespace(name="flickr30k", needs="ranking")
    model, allocation = Replying(), None
    bench = Bench(model, KeptReplies(journal, lambda *_: None), "a", SIZE)
    done: list[int] = []
    found = predict(bench, allocation, ranking, SAMPLES, Decoding(10), done.append)  # type: ignore[arg-type]
    # in their order, the first beside itself
    assert found[0][:2] == ["s0 beside s0", "s1 beside s0"]
