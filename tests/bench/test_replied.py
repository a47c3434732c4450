"""How far tokens of replies are from full precision, against transformers itself."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.bench import replied
from allocator.bench.loading import open_bench, open_full_precision
from allocator.bench.prepare import Setup, prepare
from allocator.bench.replied import log_probabilities, some_of, token_divergence
from allocator.core.allocation import Choice
from allocator.core.plugins import load
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from tests.itself import ask_itself
from tests.states import logits_of, made
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.core.ports import Sample

ASKED = StudySpec("4.0", "vqav2", methods=("uniform",), widths=(2, 8, 16))
REPLIES = ("red", "two dogs", "no", "12")


@pytest.fixture(params=["tiny-llava", "tiny-blip2"])
def setup(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    drawn_world: Path,
) -> Iterator[Setup]:
    with homes(tmp_path, drawn_world):
        ask_itself(monkeypatch, answers=True)
        yield prepare(replace(ASKED, model=request.param))


def answered(setup: Setup) -> list[Sample]:
    own = setup.samples["evaluation"][: len(REPLIES)]
    pairs = zip(own, REPLIES, strict=True)
    return [replace(each, references=(said,)) for each, said in pairs]


def test_each_token_of_a_reply_and_its_end_are_read_as_transformers_reads_them(
    setup: Setup,
) -> None:
    bench, samples = open_full_precision(setup), answered(setup)
    found = log_probabilities(bench, setup.space.full, samples)
    order = [place for places in bench.plan(samples) for place in places]
    tokenizer = bench.model.processor.tokenizer
    for place, rows in zip(order, found, strict=True):
        one = samples[place]
        state = bench.model.inputs([one], answered=True)
        with torch.inference_mode():
            said = bench.model.module(**state).logits[0].float().log_softmax(-1)
        count = len(tokenizer(f" {one.references[0]}", add_special_tokens=False)[0].ids)
        assert len(rows) == count + 1
        torch.testing.assert_close(rows, said[-count - 1 :], atol=1e-4, rtol=1e-3)
    assert token_divergence(found, found) == replied.TokenDivergence(
        0.0, sum(map(len, found)), len(samples)
    )


def test_fewer_bits_are_further_off(setup: Setup) -> None:
    bench, samples = open_bench(setup, Silent()), answered(setup)
    full = log_probabilities(bench, setup.space.full, samples)
    far = []
    for bits in (8, 2):
        alike = setup.space.alike(Choice(bits, "uniform"))
        found = token_divergence(full, log_probabilities(bench, alike, samples))
        assert found is not None
        assert found.samples == len(samples)
        far.append(found.nats)
    assert 0 < far[0] < far[1] / 5


def test_the_mean_is_over_tokens() -> None:
    half, quarter = math.log(0.5), math.log(0.25)
    full = [torch.tensor([[half, half], [half, half]]), torch.tensor([[half, half]])]
    other = [full[0], torch.tensor([[quarter, math.log(0.75)]])]
    found = token_divergence(full, other)
    assert found is not None
    # of three tokens one is off, by (ln 2 + ln 2/3) / 2
    assert found.nats == pytest.approx((math.log(2) + math.log(2 / 3)) / 2 / 3)
    assert (found.tokens, found.samples) == (3, 2)
    assert token_divergence(full, [full[0], torch.full((1, 2), math.nan)]) is None


def test_no_more_samples_are_read_than_a_memory_holds(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, own = open_full_precision(setup), setup.samples["evaluation"]
    assert len(some_of(bench, own, (len(own),), 0)) == len(own)
    monkeypatch.setattr(replied, "MOST", 7)
    few = some_of(bench, own, (len(own),), 0)
    assert len(few) == 7
    assert set(few) <= set(own)
    monkeypatch.setattr(replied, "BYTES", 1)
    assert len(some_of(bench, own, (len(own),), 0)) == 1


def test_a_decoder_that_reads_replies_alone_is_read_at_each_of_their_tokens(
    tmp_path: Path,
) -> None:
    family = load("allocator.families", "blip2")
    # a start and two tokens, a start and one
    state = made(family, tmp_path, "t5")
    model = family.load(tmp_path, "cpu")
    asked = SimpleNamespace(inputs=lambda *_, **__: dict(state), stages=model.stages)
    bench: Any = SimpleNamespace(model=asked)
    both: Any = [None, None]
    found = replied._read(bench, both)
    said = logits_of(model, dict(state)).log_softmax(-1)
    assert [len(rows) for rows in found] == [3, 2]
    torch.testing.assert_close(found[0], said[0])
    torch.testing.assert_close(found[1], said[1, :2])
