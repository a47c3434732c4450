"""The simulated crew: nothing is lost, nobody is faster than all hands together."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from studies.scale.crew_simulated import Costs, Outcome, Simulated
from studies.scale.crew_work import Piece, Plan, Stage, Work, taken

# a storage and a cluster that take no time
FREE = Costs(
    read=0.0,
    write=0.0,
    read_all=(0.0, 0.0),
    served=(1e-9, 1e-9),
    late=0.0,
    start=0.0,
    deaths=0.0,
    jitter=0.0,
)
ROW = Stage("probes", tuple(Piece(2.0, 0.0, n) for n in range(400)))


def run(workers: int, costs: Costs = FREE, dies: float | None = None) -> Outcome:
    return Simulated([ROW], workers, costs, 0, dies).run()


def test_one_worker_takes_the_sum_of_all_pieces() -> None:
    stages = list(Work(Plan(proposals=2)).stages())
    found = Simulated(stages, 1, FREE, 0).run()
    # pieces of one allocation in a row exchange weights once
    assert found.seconds == pytest.approx(
        sum(each.seconds for each in stages), rel=0.01
    )


def test_weights_are_exchanged_only_where_others_are_in_place() -> None:
    row = [Piece(1.0, 0.5, 7), Piece(1.0, 0.5, 7), Piece(1.0, 0.5, 8)]
    assert taken(row, 7) == 3.5
    assert taken(row, 1) == 4.0


@pytest.mark.parametrize("workers", [2, 8, 32])
def test_no_crew_is_faster_than_its_hands_or_much_slower(workers: int) -> None:
    least = ROW.seconds / workers
    found = run(workers)
    assert found.stages[0][3] == pytest.approx(ROW.seconds)
    # who waits looks four times a second, and twice for a letter; the last piece is one
    assert least <= found.seconds <= 1.15 * least + 2.0 + 1.0


def test_what_dead_workers_had_is_done_by_others() -> None:
    found = run(8, replace(FREE, deaths=60.0), dies=inf)
    assert found.lost > 0
    assert found.stages[0][3] == pytest.approx(ROW.seconds)


def test_the_pieces_of_a_dead_worker_wait_for_its_lease() -> None:
    whole, costs = run(2).seconds, replace(FREE, deaths=30.0)
    assert run(2, costs, dies=inf).seconds > whole


def test_a_leader_that_dies_costs_a_lease_and_the_stage_it_was_at() -> None:
    whole = run(8).seconds
    found = run(8, dies=whole / 2)
    assert found.leaders == 2
    assert found.seconds == pytest.approx(whole / 2 + 60 + whole * 8 / 7, rel=0.1)


def test_scores_come_as_many_at_once_as_asked() -> None:
    stages = list(Work(Plan(proposals=20, at_once=8)).stages())
    found = Simulated(stages, 4, Costs(), 0).run()
    assert [count for _, count in found.scores] == [8, 16, 20]
    times = [at for at, _ in found.scores]
    assert times == sorted(times)


def test_late_workers_serve_from_when_they_are_ready() -> None:
    assert run(8).seconds < run(8, replace(FREE, late=300.0)).seconds < run(1).seconds
