from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from allocator.core.errors import ModelError, SpecError
from quant.hessian import (
    InputStatistics,
    dead_inputs,
    inverse_factor,
    output_error,
    total_error,
)


def activations(tokens: int, features: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, generator=generator) / math.sqrt(features)
    return torch.randn(tokens, features, generator=generator) @ (
        mixing + torch.eye(features)
    )


def statistics(*batches: torch.Tensor) -> InputStatistics:
    inputs = InputStatistics.empty(batches[0].shape[-1])
    for batch in batches:
        inputs.add(batch)
    return inputs


def test_the_hessian_is_twice_the_mean_outer_product() -> None:
    inputs = statistics(torch.tensor([[1.0, 2.0], [3.0, -4.0]]))
    # 2/2 (1 + 9, 2 - 12; 2 - 12, 4 + 16)
    assert inputs.hessian.tolist() == [[10.0, -10.0], [-10.0, 20.0]]
    assert inputs.mean_abs.tolist() == [2.0, 3.0]
    assert inputs.tokens == 2


def test_batches_of_any_size_add_up_to_one() -> None:
    x = activations(100, 24)
    parts = statistics(x[:1], x[1:60].reshape(1, 59, 24), x[60:60], x[60:])
    whole = statistics(x)
    assert parts.tokens == whole.tokens == 100
    torch.testing.assert_close(parts.hessian, whole.hessian)
    torch.testing.assert_close(parts.mean_abs, whole.mean_abs)


def test_half_precision_inputs_are_summed_in_single_precision() -> None:
    x = activations(64, 8).half() * 100
    inputs = statistics(*(x[start : start + 8] for start in range(0, 64, 8)))
    exact = x.double()
    assert inputs.hessian.dtype == torch.float32
    expected = exact.T @ exact * 2 / 64
    # fp16 sums would be off by 2**-11
    torch.testing.assert_close(inputs.hessian.double(), expected, rtol=1e-5, atol=1e-6)


def test_inputs_of_another_width_are_refused() -> None:
    with pytest.raises(SpecError, match="have 3 features, not 2"):
        InputStatistics.empty(2).add(torch.zeros(4, 3))


@pytest.mark.parametrize("shape", [(4,), (4, 3), (1, 4, 2)])
def test_weights_that_cannot_read_the_inputs_are_refused(shape: list[int]) -> None:
    with pytest.raises(SpecError, match="does not read 2 features"):
        InputStatistics.empty(2).check([torch.zeros(shape)])


def symmetric(x: torch.Tensor) -> torch.Tensor:
    """A Hessian that is symmetric to the last bit, so that either half will do."""
    hessian = statistics(x).hessian
    return (hessian + hessian.T) / 2


def published_factor(hessian: torch.Tensor) -> torch.Tensor:
    """The three steps of the published code, in double precision."""
    identity = torch.eye(len(hessian), dtype=torch.float64)
    damping = 0.01 * hessian.double().diagonal().mean() * identity
    lower = torch.linalg.cholesky(hessian.double() + damping)
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)


# one block, two with hardly anything in the second, and three
@pytest.mark.parametrize("features", [1, 40, 256, 257, 700])
def test_the_factor_is_that_of_the_damped_inverse(features: int) -> None:
    hessian = symmetric(activations(2 * features + 2, features))
    factor = inverse_factor(hessian)
    expected = published_factor(hessian)
    torch.testing.assert_close(factor.double(), expected, rtol=1e-5, atol=1e-6)
    assert factor.equal(factor.triu())
    assert factor.is_contiguous()


def test_double_precision_stays_double() -> None:
    hessian = symmetric(activations(900, 300)).double()
    factor = inverse_factor(hessian)
    assert factor.dtype == torch.float64
    torch.testing.assert_close(factor, published_factor(hessian), rtol=1e-9, atol=1e-11)


def test_inputs_can_be_taken_in_another_order() -> None:
    x = activations(900, 300)
    x[:, 7] = 0
    hessian = statistics(x).hessian
    order = torch.randperm(300, generator=torch.Generator().manual_seed(4))
    turned = inverse_factor(hessian[order][:, order])
    assert inverse_factor(hessian, order=order).equal(turned)


def test_dead_inputs_are_told_apart_and_left_alone() -> None:
    x = activations(200, 10)
    x[:, 3] = 0
    hessian = statistics(x).hessian
    assert dead_inputs(hessian).nonzero().tolist() == [[3]]
    factor = inverse_factor(hessian)
    assert factor.isfinite().all()
    assert factor[3, 4:].abs().max() == 0
    assert factor[:3, 3].abs().max() == 0


def test_dead_inputs_do_not_damp_the_live_ones() -> None:
    # live activations are tiny beside the 1 that stands in for a dead diagonal
    x = activations(200, 10) * 1e-3
    live = inverse_factor(statistics(x[:, :9]).hessian)
    x[:, 9] = 0
    with_dead = inverse_factor(statistics(x).hessian)
    # the factor is about 1e3 here
    torch.testing.assert_close(with_dead[:9, :9], live, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("tokens", [1, 5, 40])
def test_fewer_tokens_than_features_still_factor(tokens: int) -> None:
    factor = inverse_factor(statistics(activations(tokens, 64)).hessian, damp=1e-6)
    assert factor.isfinite().all()
    assert (factor.diagonal() > 0).all()


def test_damping_grows_until_the_matrix_is_positive_definite() -> None:
    # eigenvalues 4 and -2; of 0.01, 0.1, 1 and 10 the last is the first above 2
    indefinite = torch.tensor([[1.0, 3.0], [3.0, 1.0]])
    factor = inverse_factor(indefinite)
    torch.testing.assert_close(
        factor.T @ factor, torch.linalg.inv(indefinite + 10 * torch.eye(2))
    )


def test_damping_grows_where_only_the_last_block_fails() -> None:
    # turned round, the first row comes last; eigenvalues 4 and -2 as above
    hessian = torch.eye(600)
    hessian[0, 1] = hessian[1, 0] = 3.0
    factor = inverse_factor(hessian)
    expected = torch.linalg.inv(hessian + 10 * torch.eye(600))
    torch.testing.assert_close(factor.T @ factor, expected)


@pytest.mark.slow
def test_factoring_holds_one_matrix_in_double_precision_and_the_result() -> None:
    features = 4000
    script = (
        "import resource, torch\n"
        "from quant.hessian import inverse_factor\n"
        "def most():\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        f"hessian = torch.eye({features}).mul_(2).add_(0.5)\n"
        # what libraries load and hold on their first call is no part of it
        "inverse_factor(hessian[:600, :600].contiguous())\n"
        "before = most()\n"
        "inverse_factor(hessian)\n"
        "print(most() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    square = features**2
    # float64, a quarter of it for what comes and goes, and float32
    assert int(done.stdout) <= square * (8 + 2 + 4)


@pytest.mark.parametrize("size", [0.0, 1e-20, 1e20])
def test_no_size_of_activations_makes_the_factor_infinite(size: float) -> None:
    hessian = torch.eye(6) * size
    kept = hessian.clone()
    assert inverse_factor(hessian).isfinite().all()
    assert hessian.equal(kept)


def test_activations_that_are_not_finite_are_refused() -> None:
    x = activations(4, 3)
    x[0, 0] = float("inf")
    with pytest.raises(ModelError, match="infinite or not numbers"):
        inverse_factor(statistics(x).hessian)


def test_the_output_error_is_that_of_running_the_layer() -> None:
    x, delta = activations(300, 20), activations(7, 20, seed=1)
    error = output_error(delta, statistics(x).hessian)
    # the Hessian is 2/n X^T X, so a row costs twice its mean squared output
    torch.testing.assert_close(error, 2 * (x @ delta.T).square().mean(0))


def test_the_total_error_stops_at_its_limit() -> None:
    delta, hessian = torch.ones(1000, 1), torch.ones(1, 1)
    # rows are added 256 at a time
    assert total_error(delta, hessian) == 1000
    assert total_error(delta, hessian, limit=300) == 512
