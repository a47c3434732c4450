"""Engines: what is refused early, and actors, with a Ray of paper."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from allocator.core.errors import SpecError, UnknownNameError
from allocator.search.crew.crew import HandError
from allocator.search.engines import engine_of, ray
from allocator.search.engines._actors import AGAIN, IDLE, READY, Actors, Seat
from allocator.search.engines.ray import PLUGIN, seats
from tests.searches import Told, asked_for


class Gone(Exception):
    """An actor died."""


@dataclass
class Answer:
    """What an actor says, as soon as there is something; errors are raised."""

    value: Any = None

    def __bool__(self) -> bool:
        return self.value is not None


@dataclass
class Handle:
    """An actor whose answers a test gives."""

    asked: list[tuple[str, Answer]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        def remote(*_: Any) -> Answer:
            self.asked.append((name, Answer()))
            return self.asked[-1][1]

        return SimpleNamespace(remote=remote)

    def says(self, name: str, value: Any) -> None:
        assert self.asked[-1][0] == name
        self.asked[-1][1].value = value


@dataclass
class Paper:
    """A Ray whose nodes and actors are made up."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    handles: list[Handle] = field(default_factory=list)
    killed: list[Handle] = field(default_factory=list)
    here: str = "a"

    def make(self) -> Handle:
        self.handles.append(Handle())
        return self.handles[-1]

    def get(self, answer: Answer) -> Any:
        if isinstance(answer.value, Exception):
            raise answer.value
        return answer.value


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Paper:
    own = Paper()
    module: Any = ModuleType("ray")
    module.wait = lambda answers, **_: ([a for a in answers if a], [])
    module.get, module.kill = own.get, own.killed.append
    module.nodes = lambda: own.nodes
    context = SimpleNamespace(get_node_id=lambda: own.here)
    module.get_runtime_context = lambda: context
    errors: Any = ModuleType("ray.exceptions")
    errors.RayActorError, errors.RayError = Gone, (Gone, ValueError)
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setitem(sys.modules, "ray.exceptions", errors)
    return own


def node(name: str, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "Alive": True, "Resources": resources}


def setup_on(device: str, asked: str = "auto") -> Any:
    return SimpleNamespace(device=device, asked=asked_for(device=asked))


def actors(paper: Paper, count: int, own: Seat) -> tuple[Actors, Told]:
    watch = Told()
    found = Actors(paper.make, lambda: "all of it", own, watch, lambda: None)
    found.begin(count)
    return found, watch


def test_an_unknown_engine_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match=r"'rya' \(known: none, ray\)"):
        engine_of(asked_for(engine="rya"))
    assert engine_of(asked_for()) is None


def test_an_address_goes_with_ray_alone() -> None:
    with pytest.raises(SpecError, match="of use to engine ray alone"):
        engine_of(asked_for(ray_address="auto"))


def test_where_ray_is_not_installed_it_is_said_how(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda _: None)
    with pytest.raises(SpecError, match=r'pip install "allocate-vlm\[ray\]"'):
        PLUGIN.check(asked_for(engine="ray"))


@pytest.mark.parametrize("address", ["nonsense", "ray://host:10001", "host:port"])
def test_what_is_no_address_is_refused(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda _: True)
    with pytest.raises(SpecError, match="is no address of a Ray cluster"):
        PLUGIN.check(asked_for(engine="ray", ray_address=address))


def test_where_nobody_answers_nothing_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda _: True)
    # no program listens at the first port
    with pytest.raises(SpecError, match="no Ray cluster answers at"):
        PLUGIN.check(asked_for(engine="ray", ray_address="127.0.0.1:1"))


def test_each_actor_takes_as_many_cores_as_this_process(paper: Paper) -> None:
    paper.nodes = [node("a", CPU=8), node("b", CPU=7)]
    each, count, own = seats(setup_on("cpu"), 2)
    assert each == {"num_cpus": 2, "num_gpus": 0}
    assert count == 4 + 3
    assert own == Seat("a", (), "")


def test_each_actor_takes_one_accelerator(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6")
    paper.nodes = [node("a", CPU=8, GPU=2), node("b", CPU=8, GPU=4)]
    each, count, own = seats(setup_on("cuda:1"), 8)
    assert each == {"num_cpus": 1, "num_gpus": 1}
    assert count == 2 + 4
    assert own == Seat("a", ("6",), "")


def test_a_leader_without_an_accelerator_does_not_lead_those_that_have_some(
    paper: Paper,
) -> None:
    paper.nodes = [node("a", CPU=8), node("b", CPU=8, GPU=4)]
    with pytest.raises(SpecError, match="has 4 GPUs and this machine, which would"):
        seats(setup_on("cpu"), 1)
    # asked for in so many words, all compute on cores
    assert seats(setup_on("cpu", "cpu"), 1)[1] == 16


def test_a_cluster_that_has_room_for_this_process_alone_is_refused(
    paper: Paper,
) -> None:
    paper.nodes = [node("a", CPU=4)]
    with pytest.raises(SpecError, match=r"4 CPUs and no room .* takes 4: set OMP_NUM"):
        seats(setup_on("cpu"), 4)
    # here nothing of the cluster's is in use
    paper.here = "elsewhere"
    assert seats(setup_on("cpu"), 4)[1] == 1


def test_the_actor_where_the_leader_sits_stays_idle(paper: Paper) -> None:
    found, _ = actors(paper, 3, Seat("a", ("1",), ""))
    for handle, place in zip(
        paper.handles, [("a", "0"), ("a", "1"), ("b", "1")], strict=True
    ):
        handle.says("seat", Seat(place[0], (place[1],), f"1{place[1]} on {place[0]}"))
    assert found.hands() == []
    for at in (0, 2):
        paper.handles[at].says("open", "")
    assert [hand.name for hand in found.hands()] == [
        "Ray actor 10 on a",
        "Ray actor 11 on b",
    ]
    assert paper.handles[1].asked[-1][0] == "seat"


def ready(paper: Paper, found: Actors) -> Any:
    paper.handles[-1].says("seat", Seat("b", (), "7 on b"))
    found.hands()
    paper.handles[-1].says("open", "")
    (hand,) = found.hands()
    return hand


def test_what_comes_out_of_pieces_comes_back_once_it_is_known(paper: Paper) -> None:
    found, _ = actors(paper, 1, Seat("a", (), ""))
    hand = ready(paper, found)
    hand.give([{"kind": "look"}, {"kind": "look"}])
    assert found.hands() == [hand]
    assert hand.found() is None
    paper.handles[0].says("done", {"found": [{"value": 1.0}, {"value": 2.0}]})
    found.hands()
    assert hand.found() == [{"value": 1.0}, {"value": 2.0}]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"failed": "no room"}, "no room"),
        ({"found": [{}]}, "it gave 1 results for 2 pieces"),
        (ValueError("of Ray's own"), "of Ray's own"),
    ],
)
def test_what_cannot_be_done_there_is_said(paper: Paper, said: Any, why: str) -> None:
    found, _ = actors(paper, 1, Seat("a", (), ""))
    hand = ready(paper, found)
    hand.give([{}, {}])
    paper.handles[0].says("done", said)
    found.hands()
    with pytest.raises(HandError, match=why):
        hand.found()


def test_a_dead_actor_is_replaced_a_few_times(paper: Paper) -> None:
    found, watch = actors(paper, 1, Seat("a", (), ""))
    for deaths in range(AGAIN + 1):
        assert len(paper.handles) == deaths + 1
        hand = ready(paper, found)
        hand.give([{}])
        paper.handles[-1].says("done", Gone("killed"))
        assert found.hands() == []
    assert found._all[0].stage == IDLE
    assert watch.said == ["Ray actor 7 on b was the last one started in its place"]


def test_one_that_would_measure_something_else_does_nothing(paper: Paper) -> None:
    found, watch = actors(paper, 2, Seat("a", (), ""))
    for handle in paper.handles:
        handle.says("seat", Seat("b", (), "7 on b"))
    found.hands()
    paper.handles[0].says("open", "its node has other data")
    paper.handles[1].says("open", "")
    (hand,) = found.hands()
    assert hand.stage == READY
    assert watch.said == ["Ray actor 7 on b does nothing: its node has other data"]


def test_all_are_killed_in_the_end(paper: Paper) -> None:
    found, _ = actors(paper, 3, Seat("a", (), ""))
    left: list[bool] = []
    replace(found, end=lambda: left.append(True), _all=found._all).close()
    assert paper.killed == paper.handles
    assert left == [True]
