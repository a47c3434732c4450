"""Parameters at full precision come back bit by bit, wherever they were kept."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch

from allocator.bench import originals
from allocator.bench.originals import Originals


class Files:
    """A checkpoint's files: how often they are mapped, and in which type."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self.module, self.dtype, self.count = deepcopy(module), dtype, 0

    def __call__(self) -> Any:
        self.count += 1
        return deepcopy(self.module).to(self.dtype)


def loaded() -> tuple[Any, Files]:
    """A module in float32 of files in bfloat16."""
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2).bfloat16().float().requires_grad_(False)
    return module, Files(module, torch.bfloat16)


def changed_and_back(module: Any, kept: Originals) -> None:
    before = deepcopy(module.state_dict())
    for turn in range(2):
        for name, parameter in module.named_parameters():
            kept.keep(name, parameter)
            parameter.fill_(turn)
        assert float(module.weight.sum()) == 6 * turn
        for name, parameter in module.named_parameters():
            kept.give_back(name, parameter)
        for name, value in module.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, before[name])


def test_a_small_model_is_copied_and_its_files_are_left_alone() -> None:
    module, files = loaded()
    changed_and_back(module, Originals(module, files))
    assert files.count == 0


def test_a_large_model_is_read_again_from_files_that_are_mapped_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module, files = loaded()
    # 8 numbers of four bytes
    monkeypatch.setattr(originals, "COPIED_BYTES", 31)
    changed_and_back(module, Originals(module, files))
    assert files.count == 1


def test_what_has_no_files_is_copied_however_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(originals, "COPIED_BYTES", 0)
    module, _ = loaded()
    changed_and_back(module, Originals(module))


@pytest.mark.gpu
def test_a_large_model_on_a_device_is_copied_into_pinned_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    monkeypatch.setattr(originals, "COPIED_BYTES", 0)
    module, files = loaded()
    module.cuda()
    before = torch.cuda.memory_allocated()
    kept = Originals(module, files)
    changed_and_back(module, kept)
    assert torch.cuda.memory_allocated() == before
    assert all(copy.is_pinned() for copy in kept._copies.values())
    assert files.count == 0
