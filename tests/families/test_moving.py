from __future__ import annotations

import pytest
import torch

from allocator.families._moving import moved

TENSORS = {"ids": torch.arange(6).view(2, 3), "pixels": torch.rand(3, 512, 512)}


def test_on_a_cpu_nothing_is_copied() -> None:
    found = moved(TENSORS, "cpu")
    assert all(found[name] is each for name, each in TENSORS.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_copies_to_a_device_are_equal_though_nobody_waits_for_them() -> None:
    for _ in range(20):
        # what is pinned is given back to torch at once
        found = moved(TENSORS, "cuda")
        sums = {name: each.sum().item() for name, each in found.items()}
        assert sums["ids"] == 15
        for name, each in TENSORS.items():
            assert torch.equal(found[name].cpu(), each)
