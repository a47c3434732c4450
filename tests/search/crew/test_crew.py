"""Pieces and hands: each piece comes back once, whatever becomes of who has it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import StudyError
from allocator.search.crew.crew import Crew, HandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PIECES = [{"n": n} for n in range(40)]


def outcome(piece: dict[str, Any]) -> dict[str, Any]:
    return {"square": piece["n"] ** 2}


@dataclass
class Other:
    """A hand: a thread of its own does what it is given, as `fails` and `slow` say."""

    name: str = "other"
    slow: float = 0.001
    fails: Callable[[int], object] = lambda _: None
    given: list[int] = field(default_factory=list)
    asked: int = 0
    _found: list[dict[str, Any]] | None = None

    def give(self, pieces: Sequence[dict[str, Any]]) -> None:
        self.asked += 1
        self._found = None
        self.given += [piece["n"] for piece in pieces]
        threading.Thread(target=self._work, args=(self.asked, list(pieces))).start()

    def _work(self, number: int, pieces: list[dict[str, Any]]) -> None:
        time.sleep(self.slow * len(pieces))
        if number == self.asked:
            self._found = [outcome(piece) for piece in pieces]

    def found(self) -> Sequence[dict[str, Any]] | None:
        if self._found is not None:
            self.fails(self.asked)
        return self._found


@dataclass
class Known:
    """A source of hands that a test changes."""

    all: list[Other]
    closed: bool = False
    fault: Exception | None = None

    def hands(self) -> list[Other]:
        if self.fault is not None:
            raise self.fault
        return list(self.all)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def said() -> list[str]:
    return []


def crew_of(source: Known, said: list[str]) -> Crew:
    crew = Crew([source], said.append)
    crew.open()
    while crew.size < len(source.all):
        time.sleep(0.001)
    return crew


@dataclass
class Here:
    """This process: does pieces one at a time, and notes which."""

    did: list[int] = field(default_factory=list)
    slow: float = 0.002
    between: Callable[[int], object] = lambda _: None

    def __call__(self, pieces: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for piece in pieces:
            self.did.append(piece["n"])
            self.between(len(self.did))
            time.sleep(self.slow)
            yield outcome(piece)


def check_all(found: Sequence[tuple[int, dict[str, Any], bool]]) -> None:
    assert Counter(place for place, _, _ in found) == Counter(range(len(PIECES)))
    assert all(own == outcome(PIECES[place]) for place, own, _ in found)


def test_alone_everything_is_done_here_in_order() -> None:
    here = Here(slow=0.0)
    found = list(Crew().done(PIECES, here))
    assert [place for place, _, _ in found] == list(range(len(PIECES)))
    check_all(found)


def test_others_do_a_part_and_every_piece_comes_back_once(said: list[str]) -> None:
    others = [Other("a"), Other("b")]
    source, here = Known(others), Here()
    crew = crew_of(source, said)
    found = list(crew.done(PIECES, here))
    crew.close()
    check_all(found)
    assert here.did
    assert all(other.given for other in others)
    assert sorted(here.did + others[0].given + others[1].given) == list(range(40))
    assert {place for place, _, by_hand in found if by_hand} == {
        *others[0].given,
        *others[1].given,
    }
    assert source.closed
    assert said == ["a joined", "b joined"]


def test_what_one_had_that_is_gone_is_done_by_others(said: list[str]) -> None:
    gone, stays = Other("gone", slow=100), Other("stays")
    source = Known([gone, stays])

    def leave(done: int) -> None:
        if done == 3:
            source.all.remove(gone)

    crew = crew_of(source, said)
    found = list(crew.done(PIECES, Here(between=leave)))
    crew.close()
    check_all(found)
    assert gone.given
    assert "gone is gone: what it was at is done by others" in said


def test_what_one_cannot_do_is_done_by_others_and_it_gets_no_more(
    said: list[str],
) -> None:
    def fails(number: int) -> None:
        raise HandError(f"no room for number {number}")

    bad = Other("bad", fails=fails)
    crew = crew_of(Known([bad]), said)
    found = list(crew.done(PIECES, Here()))
    again = list(crew.done(PIECES, Here()))
    crew.close()
    check_all(found)
    check_all(again)
    assert bad.asked == 1
    assert said == ["bad joined", "bad does nothing more: no room for number 1"]


def test_who_does_not_answer_is_not_waited_for(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("allocator.search.crew.crew.SPARE", 0.05)
    crew = crew_of(Known([Other("frozen", slow=100)]), said)
    waited: list[None] = []
    found = list(crew.done(PIECES, Here(), lambda: waited.append(None)))
    crew.close()
    check_all(found)
    assert waited
    assert said[1:] == ["frozen does not answer: what it was at is done by others"]


def test_a_source_that_fails_in_whatever_way_holds_nobody_up(said: list[str]) -> None:
    source = Known([Other("a", slow=100)])

    def fail(done: int) -> None:
        if done == 3:
            source.fault = RuntimeError("a fault")

    crew = crew_of(source, said)
    found = list(crew.done(PIECES, Here(between=fail)))
    crew.close()
    check_all(found)
    assert "nobody else does pieces any more: a fault" in said


def test_a_source_that_is_away_for_a_while_loses_nothing(said: list[str]) -> None:
    source = Known([Other("a", slow=100)])

    def cut(done: int) -> None:
        source.fault = StudyError("no connection") if done > 2 else None

    crew = crew_of(source, said)
    found = list(crew.done(PIECES, Here(between=cut)))
    crew.close()
    check_all(found)


def test_what_ends_the_search_leaves_nothing_to_the_next_pieces(
    said: list[str],
) -> None:
    def stop(done: int) -> None:
        if done == 2:
            raise TimeoutError

    crew = crew_of(Known([Other("a", slow=0.01)]), said)
    with pytest.raises(TimeoutError):
        list(crew.done(PIECES, Here(between=stop)))
    # what is under way there is of pieces that nobody waits for any more
    found = list(crew.done(PIECES, Here()))
    crew.close()
    check_all(found)
