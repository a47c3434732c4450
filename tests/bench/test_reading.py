"""Batches as embedded models read them: long replies, threads, too little memory."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.bench import batching, forward, reading
from allocator.bench.loading import open_full_precision
from allocator.bench.prepare import prepare
from allocator.core.allocation import Allocation, Choice
from allocator.core.errors import DataError, ModelError
from allocator.core.recurring import Recurring
from allocator.core.study import StudySpec
from quant.lru_cache import LRUCache

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.bench.workbench import Workbench
    from allocator.core.ports import Sample


@pytest.fixture(params=["tiny-blip2", "tiny-llava"])
def captioner(
    request: pytest.FixtureRequest, drawn_world: Path
) -> tuple[Workbench, tuple[Sample, ...]]:
    asked = StudySpec("16", "coco", model=request.param, data=str(drawn_world))
    setup = prepare(asked, ("search",))
    return open_full_precision(setup), setup.samples["search"][:6]


def test_long_replies_are_read_token_by_token(
    captioner: tuple[Workbench, tuple[Sample, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, samples = captioner
    full = Allocation.uniform(bench.spec, Choice(16))
    found = bench.logits(full, samples)
    assert found.shape[:2] == (6, forward.READ)
    # without padding, every position by the module's own forward pass
    for sample, row in zip(samples, found, strict=True):
        plain = bench.model.inputs([sample])
        said = bench.model.inputs([sample], answered=True)
        first = plain["attention_mask"].shape[1] - 1
        with torch.inference_mode():
            whole = bench.model.module(**said).logits[0].float().log_softmax(-1)
        # logits of a BLIP-2 leave its image tokens in place, as those of a LLaVA
        extra = whole.shape[0] - said["attention_mask"].shape[1]
        last = whole.shape[0] - 1
        places = [min(first + extra + at, last) for at in range(forward.READ)]
        torch.testing.assert_close(row, whole[places], atol=2e-4, rtol=1e-4)
    # the first of them is what is read where replies are short
    monkeypatch.setattr(reading, "LONG", 1000)
    torch.testing.assert_close(bench.logits(full, samples)[:, 0], found[:, 0])


def test_inputs_made_ahead_by_threads_change_nothing(
    captioner: tuple[Workbench, tuple[Sample, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, samples = captioner
    full = Allocation.uniform(bench.spec, Choice(16))
    monkeypatch.setattr(batching, "MOST", 2)
    bench.inputs = Recurring(0)
    wanted = bench.score(full, samples).values, bench.logits(full, samples)
    bench.features = LRUCache(0)
    # as beside a model on a device of its own
    bench.apart = (bench.model.apart(), bench.model.apart())
    assert bench.score(full, samples).values == wanted[0]
    assert torch.equal(bench.logits(full, samples), wanted[1])
    (tmp_path / "none.jpg").write_bytes(b"no picture")
    broken = replace(samples[3], image=tmp_path / "none.jpg")
    for run in (bench.score, bench.logits):
        with pytest.raises(DataError, match=r"none\.jpg cannot be read as a picture"):
            run(full, [*samples[:3], broken, *samples[4:]])
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_where_memory_does_not_suffice_scores_and_looks_are_the_same(
    captioner: tuple[Workbench, tuple[Sample, ...]],
) -> None:
    bench, samples = captioner
    full, said = Allocation.uniform(bench.spec, Choice(16)), list[str]()
    wanted = bench.score(full, samples).values
    logits = bench.logits(full, samples)
    bench.features, bench.halving.say = LRUCache(0), said.append

    def hold(_: Any, given: tuple[torch.Tensor]) -> None:
        if len(given[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    first = bench.model.module.get_submodule(bench.spec.linears[0].name)
    hook = first.register_forward_pre_hook(hold)
    # six, three, and as many as fit
    torch.testing.assert_close(bench.logits(full, samples), logits)
    assert set(bench.halving.limits) == {"look"}
    assert bench.score(full, samples).values == pytest.approx(wanted)
    assert len(said) == 1
    hook.remove()
    first.register_forward_pre_hook(lambda *_: hold(_, (torch.zeros(3),)))
    with pytest.raises(ModelError, match=f"sample {samples[0].id} does not fit"):
        bench.logits(full, samples[:1])
