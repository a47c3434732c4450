from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench import batching
from allocator.bench.prepare import prepare
from allocator.bench.reserved import LEARNING, LEAST, LIBRARIES, reserved_bytes
from allocator.core import memory
from allocator.core.errors import SpecError
from allocator.core.ports import SPLITS
from allocator.core.study import StudySpec
from allocator.search.estimate import FREE
from quant.passes import Passes
from quant.streaming import Spool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from allocator.bench.prepare import Setup
    from allocator.core.ports import Split

MB = 10**6


@pytest.fixture(autouse=True)
def free() -> Iterator[None]:
    yield
    memory.allow(None)


@pytest.fixture(scope="module")
def setup(
    tmp_path_factory: pytest.TempPathFactory, drawn_world: Path
) -> Iterator[Setup]:
    asked = StudySpec("4.0", "vqav2", data=str(drawn_world), calibration=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield prepare(asked)


def of(setup: Setup, *splits: Split, device: str = "cpu") -> int:
    about = setup.asked, setup.model, setup.scheme, device, setup.arithmetic
    return reserved_bytes(*about, splits)


def test_each_set_of_samples_brings_what_reads_it(setup: Setup) -> None:
    nothing = of(setup)
    assert nothing == LIBRARIES
    assert of(setup, "search") - nothing == LEARNING
    # the whole model in float32
    assert of(setup, "evaluation") - nothing == 4 * setup.model.parameters
    block = of(setup, "calibration") - nothing
    most = max(
        sum(x.weights for x in setup.model.linears if (x.component, x.block) == key)
        for key in {(x.component, x.block) for x in setup.model.linears}
    )
    # a block in float32 at least, and no second copy of the model for each width
    assert 4 * most < block < 32 * setup.model.parameters
    assert of(setup, *SPLITS) == of(setup, "search", "evaluation") + block


def test_on_a_device_the_model_is_elsewhere(setup: Setup) -> None:
    with_model = of(setup, "evaluation", device="cuda")
    assert with_model == of(setup, device="cuda") > LIBRARIES


def test_what_cannot_do_is_refused_before_anything_is_loaded(setup: Setup) -> None:
    needed = of(setup, *SPLITS) + LEAST
    prepare(replace(setup.asked, memory=f"{needed // 1000 + 1}kB"))
    told = r"takes at least \d+ MB of memory here, and --memory 300MB is 300 MB"
    with pytest.raises(SpecError, match=told):
        prepare(replace(setup.asked, memory="300MB"))
    # scoring alone takes less
    fewer = of(setup, "evaluation") + LEAST
    less = replace(setup.asked, memory=f"{fewer // 1000 + 1}kB")
    assert fewer < needed
    prepare(less, ("evaluation",))
    with pytest.raises(SpecError, match="takes at least"):
        prepare(less)


def test_memory_is_free_within_a_study(setup: Setup) -> None:
    assert "memory" in FREE
    given = replace(setup.asked, memory="2GB")
    assert prepare(given).identity == setup.identity


def test_caches_give_way_before_batches_do(tmp_path: Path) -> None:
    usual = Passes().limit_bytes, Spool(tmp_path, "cpu").limit
    memory.allow(1000 * MB, 600 * MB)
    # a sixteenth of the 400 MB that are left
    assert Passes().limit_bytes == Spool(tmp_path, "cpu").limit == 25 * MB
    assert min(usual) > 25 * MB
    memory.allow(None)
    assert (Passes().limit_bytes, Spool(tmp_path, "cpu").limit) == usual


class Weight:
    """Where a model's weights are, and in how many bytes each."""

    def __init__(self, device: str) -> None:
        import torch

        self.device = torch.device(device)

    def element_size(self) -> int:
        return 4


def room(device: str = "cpu") -> batching.Room:
    class Config:
        hidden_size, num_attention_heads = 64, 4

        def get_text_config(self) -> Config:
            return self

    class Module:
        config = Config()

        def parameters(self) -> Iterator[Any]:
            return iter([Weight(device)])

    class Model:
        module = Module()

    model: Any = Model()
    return batching.Room.of(model, {}, 1)


def test_batches_take_a_quarter_of_the_limit_or_half_of_what_is_left() -> None:
    memory.allow(1000 * MB, 200 * MB)
    assert room().bytes == 250 * MB
    memory.allow(1000 * MB, 700 * MB)
    assert room().bytes == 150 * MB


def test_batches_of_a_device_follow_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "total_memory", lambda _: 80 * 10**9)
    memory.allow(1000 * MB, 990 * MB)
    assert room("meta").bytes == 20 * 10**9
