from __future__ import annotations

import threading
from contextlib import closing
from threading import Event

import pytest

from allocator.bench.ahead import made_ahead

WAIT = 20.0


def alive() -> int:
    return sum(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_what_is_made_comes_in_the_order_in_which_it_was_asked_for() -> None:
    made = made_ahead(range(20), [lambda n: 10 * n] * 3)
    assert [(asked, give()) for asked, give in made] == [(n, 10 * n) for n in range(20)]
    assert alive() == 0


def test_the_next_is_made_while_one_is_used() -> None:
    begun = [Event() for _ in range(3)]

    def make(number: int) -> int:
        begun[number].set()
        return number

    with closing(made_ahead(range(3), [make])) as made:
        next(made)
        assert begun[1].wait(WAIT)


def test_no_more_is_asked_for_than_is_made_ahead() -> None:
    asked = iter(range(100))
    with closing(made_ahead(asked, [str, str])) as made:
        next(made)
        # two are made and two wait, beside the one that is used
        assert next(asked) == 5
    assert alive() == 0


def test_an_error_in_a_thread_is_raised_where_its_turn_comes() -> None:
    def make(number: int) -> float:
        return 1 / (2 - number)

    with closing(made_ahead(range(9), [make])) as made:
        assert [next(made)[1]() for _ in range(2)] == [0.5, 1]
        give = next(made)[1]
        with pytest.raises(ZeroDivisionError):
            give()
    assert alive() == 0


def test_who_is_interrupted_waits_for_what_has_begun_and_nothing_else() -> None:
    begun: list[int] = []

    def used() -> None:
        with closing(made_ahead(range(100), [begun.append])) as made:
            next(made)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        used()
    assert len(begun) <= 3
    assert alive() == 0
