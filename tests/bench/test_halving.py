from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from allocator.bench.halving import Halving
from allocator.core.errors import ModelError, in_one_sentence
from allocator.core.full import is_out_of_memory

SAMPLES: Any = [SimpleNamespace(id=f"s{n}") for n in range(12)]
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
]


class Model:
    """Holds so many samples at once, and names those that it ran."""

    def __init__(self, most: int, error: Exception = ERRORS[0]) -> None:
        self.most, self.error, self.ran = most, error, list[int]()

    def run(self, piece: Any) -> list[str]:
        with in_one_sentence("the model fails"):
            if len(piece) > self.most:
                raise self.error
        self.ran.append(len(piece))
        return [each.id for each in piece]


@pytest.mark.parametrize("error", ERRORS)
def test_what_does_not_fit_runs_in_halves_and_so_does_what_comes_next(
    error: Exception,
) -> None:
    said: list[str] = []
    model, halving = Model(3, error), Halving(say=said.append)
    found = [x for given in halving.run(SAMPLES, model.run) for x in given]
    assert found == [each.id for each in SAMPLES]
    assert model.ran == [3, 3, 3, 3]
    # nothing is tried again that is known not to fit
    model.error = AssertionError()
    assert len(list(halving.run(SAMPLES[:7], model.run))) == 3
    assert model.ran[4:] == [3, 3, 1]
    assert len(said) == 1


def test_a_batch_that_fits_is_run_as_it_is() -> None:
    halving, seen = Halving(), list[Any]()
    list(halving.run(SAMPLES, seen.append))
    assert seen[0] is SAMPLES
    assert halving.limits == {}


def test_a_sample_that_does_not_fit_alone_is_one_sentence_that_helps() -> None:
    with pytest.raises(ModelError, match=r"sample s0 .* --cache-memory") as caught:
        list(Halving().run(SAMPLES, Model(0).run))
    assert "\n" not in str(caught.value)


def test_other_errors_pass() -> None:
    with pytest.raises(ModelError, match="the model fails: a fault"):
        list(Halving().run(SAMPLES, Model(0, ValueError("a fault")).run))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_what_did_not_fit_is_known_of_later_batches_of_that_shape_or_larger() -> None:
    """Two attempts of the first batch fail, none of the twenty after it."""
    tokens = {each.id: 100 if n < 6 else 20 for n, each in enumerate(SAMPLES)}
    long, short = SAMPLES[:6], SAMPLES[6:]
    failed: list[int] = []

    def run(piece: Any) -> int:
        size = len(piece) * max(tokens[each.id] for each in piece)
        if size > 200:
            failed.append(size)
            raise MemoryError
        return len(piece)

    halving = Halving(lengths=lambda some: [tokens[each.id] for each in some])
    pieces = [list(halving.run(batch, run, "look")) for batch in (long, short) * 10]
    # 600, then 300 tokens did not fit; 150 is the most from then on
    assert failed == [600, 300]
    assert pieces[0] == [1] * 6
    # six short ones take 120 tokens: nobody cuts them
    assert pieces[1::2] == [[6]] * 10


def test_each_kind_of_work_is_cut_for_itself() -> None:
    halving = Halving()
    list(halving.run(SAMPLES, Model(3).run, "reply"))
    assert len(list(halving.run(SAMPLES, Model(12).run, "look"))) == 1
