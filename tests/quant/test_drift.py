from __future__ import annotations

import torch

from quant.drift import RIDGE, Drift, Moments


def drawn(tokens: int = 400, features: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated inputs, and the same behind a rounding of what made them."""
    torch.manual_seed(0)
    mix = torch.randn(features, features) / features**0.5
    hidden = torch.randn(tokens, features)
    return hidden @ mix, (hidden * 2).round() / 2 @ (mix + 0.1 * torch.randn_like(mix))


def test_inputs_that_did_not_move_change_no_weight_at_all() -> None:
    full, _ = drawn()
    drift = Drift.empty(24)
    drift.add(full, full)
    weight = torch.randn(10, 24).half()
    (found,) = drift.corrected([weight])
    assert torch.equal(found, weight.float())


def test_nothing_seen_changes_nothing() -> None:
    weight = torch.randn(10, 24)
    assert torch.equal(Drift.empty(24).corrected([weight])[0], weight)


def test_a_fit_solves_the_damped_normal_equations() -> None:
    full, read = drawn()
    moments = Moments.empty(24)
    # in two batches of other sizes
    moments.add(full[:100], read[:100])
    moments.add(full[100:], read[100:])
    weight = torch.randn(10, 24)
    q, gap = read.double(), (full - read).double()
    square = q.T @ q / len(q)
    ridge = RIDGE * square.diagonal().mean() * torch.eye(24).double()
    wanted = torch.linalg.solve(square + ridge, q.T @ gap @ weight.T.double() / len(q))
    assert torch.allclose(moments.fit(weight).double(), wanted, atol=1e-4)


def test_outputs_come_nearer_to_full_precision_on_new_inputs() -> None:
    full, read = drawn(2000)
    drift = Drift.empty(24)
    drift.add(full[:1000], read[:1000])
    weights = [torch.randn(6, 24), torch.randn(10, 24)]
    found = drift.corrected(weights)
    assert [each.shape for each in found] == [each.shape for each in weights]
    for before, after in zip(weights, found, strict=True):
        wanted = full[1000:] @ before.T
        lost = (read[1000:] @ before.T - wanted).square().sum()
        left = (read[1000:] @ after.T - wanted).square().sum()
        assert left < 0.8 * lost


def test_a_change_that_does_not_hold_on_the_other_half_is_not_made() -> None:
    torch.manual_seed(0)
    read = torch.randn(40, 24)
    # the second half moves the other way
    move = torch.cat([read[:20], -read[20:]]) @ torch.randn(24, 24) / 5
    drift = Drift.empty(24)
    drift.add(read + move, read)
    weight = torch.randn(10, 24)
    assert torch.equal(drift.corrected([weight])[0], weight)


def test_what_moved_at_random_is_hardly_followed() -> None:
    torch.manual_seed(0)
    read = torch.randn(60, 24)
    drift = Drift.empty(24)
    drift.add(read + torch.randn(60, 24), read)
    weight = torch.randn(10, 24)
    change = drift.corrected([weight])[0] - weight
    followed = drift._joined().fit(weight).T
    assert change.norm() < 0.3 * followed.norm()


def test_moments_that_cannot_be_factored_change_nothing() -> None:
    # its eigenvalues are 4 and -2
    square = torch.tensor([[1.0, 3.0], [3.0, 1.0]])
    assert not Moments(square, torch.ones(2, 2), 5).fit(torch.randn(3, 2)).any()
