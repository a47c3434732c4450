from __future__ import annotations

import pytest
import torch

from quant.hessian import InputStatistics, factored, inverse_factor
from quant.ordering import by_loudness, smallest_first


def hessian_of(features: int) -> torch.Tensor:
    """Of correlated inputs, some louder than others."""
    seed = torch.Generator().manual_seed(features)
    mixing = torch.randn(features, features, generator=seed) / 8
    inputs = InputStatistics.empty(features)
    inputs.add(torch.randn(900, features, generator=seed) @ mixing)
    return inputs.hessian.double()


def eliminated(hessian: torch.Tensor, done: list[int]) -> torch.Tensor:
    """What is left of each diagonal once some inputs have made up for it."""
    rest = hessian.clone()
    if done:
        gain = torch.linalg.solve(hessian[done][:, done], hessian[done])
        rest = hessian - hessian[:, done] @ gain
    return rest.diagonal()


def test_what_is_left_after_the_smallest_pivot_decides_the_next() -> None:
    # once 1 is gone, 4 - 2 * 2 / 2 = 2 is left of input 0, less than the 3 of input 2
    matrix = torch.tensor([[4.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    assert smallest_first(matrix, [3]).tolist() == [1, 0, 2]


def test_spans_come_one_after_the_other() -> None:
    matrix = torch.diag(torch.tensor([9.0, 8.0, 2.0, 1.0]))
    assert smallest_first(matrix, [2, 4]).tolist() == [1, 0, 3, 2]


def test_a_matrix_without_pivots_keeps_its_order() -> None:
    assert smallest_first(torch.full((3, 3), torch.nan), [3]).tolist() == [0, 1, 2]


@pytest.mark.parametrize("span", [32, 64, 96, 192])
def test_groups_stay_together_and_end_with_what_costs_least(span: int) -> None:
    hessian = hessian_of(192)
    found = factored(hessian, by_loudness(hessian, span), span=span)
    order, groups = found.order, (found.order // span).reshape(-1, span)
    assert sorted(order.tolist()) == list(range(192))
    assert (groups == groups[:, :1]).all()
    loud = hessian.diagonal().reshape(-1, span).sum(1)[groups[:, 0]]
    assert loud.equal(loud.sort(descending=True).values)
    # libraries may round a factor otherwise from one processor to the next
    again = inverse_factor(hessian, order=order)
    torch.testing.assert_close(found.factor, again, rtol=1e-10, atol=1e-12)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(192)
    torch.testing.assert_close(found.diagonal, damped.diagonal()[order])
    # a block of the factorization has 128 inputs, so no choice is among more
    backwards = order.flip(0).tolist()
    for at in range(192):
        stop = min(at // span * span + span, at // 128 * 128 + 128)
        left = eliminated(damped, backwards[:at])[backwards[at:stop]]
        assert left[0] <= left.min() * (1 + 1e-9)


def test_equal_inputs_keep_the_order_of_the_matrix() -> None:
    hessian = 2 * torch.eye(64)
    assert by_loudness(hessian, 16).equal(torch.arange(64))
