"""Weights by name: a linear's own, or a slice of its block's experts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from allocator.core.weights import key_of, slice_of, weight_of


class Experts(nn.Module):
    """Three experts; those of `down` are stored the other way round."""

    is_transposed = False

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 4, 2))


class Turned(Experts):
    is_transposed = True


@pytest.fixture
def module() -> Any:
    found: Any = nn.Module()
    found.experts, found.turned = Experts(), Turned()
    found.row = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 3))
    return found


def test_an_expert_is_a_slice_of_its_parameter(module: Any) -> None:
    assert slice_of(module, "experts.up.2") == ("experts.up", 2)
    assert key_of(module, "experts.up.2") == "experts.up"
    assert torch.equal(weight_of(module, "experts.up.2"), module.experts.up[2])


def test_what_is_put_into_a_slice_is_in_the_parameter(module: Any) -> None:
    before = module.experts.up.detach().clone()
    with torch.no_grad():
        weight_of(module, "experts.up.1").fill_(7.0)
    assert torch.equal(module.experts.up[1], torch.full((4, 2), 7.0))
    assert torch.equal(module.experts.up[[0, 2]], before[[0, 2]])


def test_experts_stored_the_other_way_round_are_read_as_out_and_in(
    module: Any,
) -> None:
    assert weight_of(module, "turned.up.0").shape == (2, 4)
    with torch.no_grad():
        weight_of(module, "turned.up.0")[1, 3] = 9.0
    assert module.turned.up[0, 3, 1] == 9.0


def test_a_linear_in_a_list_is_no_expert(module: Any) -> None:
    assert slice_of(module, "row.1") is None
    assert key_of(module, "row.1") == "row.1.weight"
    assert weight_of(module, "row.1") is module.row[1].weight
