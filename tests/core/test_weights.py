"""Weights by name: a linear's own, or a slice of its block's experts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from allocator.core.weights import (
    beside,
    key_of,
    name_of_weight,
    slice_of,
    tensor_of,
    weight_of,
)


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


def test_a_weight_has_a_name_by_which_its_values_are_found(module: Any) -> None:
    names = ("row.0", "turned.up.2")
    found = [name_of_weight(module, name) for name in names]
    assert found == ["row.0.weight", "turned.up.2"]
    assert tensor_of(module, "row.0.weight") is module.row[0].weight
    assert torch.equal(tensor_of(module, "turned.up.2"), module.turned.up[2].T)
    assert tensor_of(module, "row.0.bias") is module.row[0].bias


def test_beside_some_linears_is_all_else_experts_one_by_one(module: Any) -> None:
    found = dict(beside(module, ["row.0", "experts.up.0", "experts.up.2"]))
    rest = ["turned.up", "row.0.bias", "row.1.weight", "row.1.bias"]
    assert list(found) == ["experts.up.1", *rest]
    assert torch.equal(found["experts.up.1"], module.experts.up[1])
    every = [f"experts.up.{number}" for number in range(3)]
    assert list(dict(beside(module, every))) == ["turned.up", "row.0.weight", *rest[1:]]
