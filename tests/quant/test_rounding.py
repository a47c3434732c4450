from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from allocator.core.allocation import Scheme
from quant.grid import Cell, decode, round_to_nearest
from quant.rounding import Rates, Rounding

SCHEMES = [
    Scheme(group, symmetric, scales)
    for group in (32, "channel", "tensor")
    for symmetric in (False, True)
    for scales in ("float16", "bfloat16")
]


def drawn(scheme: Scheme, bits: int = 3) -> tuple[Cell, torch.Tensor]:
    """A cell whose codes are not the nearest ones, as GPTQ's are not."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(16, 64, generator=draw) / 8
    cell = round_to_nearest(weight, scheme, bits)
    shift = torch.randint(-1, 2, cell.codes.shape, generator=draw)
    codes = (cell.codes.int() + shift).clamp(0, 2**bits - 1)
    return replace(cell, codes=codes.to(torch.uint8)), weight


def through(x: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """A rounded value whose gradient is that of the value."""
    return (rounded - x).detach() + x


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_it_starts_as_the_cell_it_was_given(scheme: Scheme, bits: int) -> None:
    cell, weight = drawn(scheme, bits)
    rounding = Rounding(cell, weight)
    assert torch.equal(rounding.value(), decode(cell.codes, cell))
    found = rounding.learned()
    assert torch.equal(found.codes, cell.codes)
    assert torch.equal(found.scale, cell.scale)
    assert torch.equal(found.zero_point, cell.zero_point)
    assert (found.zero is None) == (cell.zero is None)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_steps_go_against_the_gradient_as_autograd_has_it(scheme: Scheme) -> None:
    cell, weight = drawn(scheme)
    rounding = Rounding(cell, weight)
    rounding.low.mul_(0.97)
    rounding.high.mul_(0.94)
    draw = torch.Generator().manual_seed(1)
    rounding.offset.uniform_(-0.3, 0.3, generator=draw)
    factors = (rounding.offset, rounding.low, rounding.high)
    offset, low, high = (each.clone().requires_grad_() for each in factors)
    first, levels, zero = rounding.first_scale, cell.levels, rounding.first_zero
    if cell.zero is None:
        exact = first * high
        scale = through(exact, exact.to(cell.scale.dtype).float())
    else:
        bottom, top = -zero * first * low, (levels - zero) * first * high
        exact = (top - bottom) / levels
        scale = through(exact, exact.to(cell.scale.dtype).float())
        zero = -bottom / scale
        real = cell.zero.is_floating_point()
        zero = through(zero, zero.half().float() if real else zero.round())
    # where all weights share a real zero-point, what it adds is rounded too
    steps = rounding.weight / scale + offset
    if cell.zero is not None and cell.zero.is_floating_point():
        codes = through(steps + zero, (steps + zero).round())
    else:
        codes = through(steps, steps.round()) + zero
    value = (codes.clamp(0, levels) - zero) * scale
    torch.testing.assert_close(rounding.value(), value.view(16, 64).detach())
    gradient = torch.randn(16, 64, generator=draw)
    value.view(16, 64).backward(gradient)  # type: ignore[no-untyped-call]
    before = [each.clone() for each in factors]
    rounding.step(gradient, Rates(offset=0.25, ends=0.125))
    for now, then, grad, rate in zip(
        factors, before, (offset.grad, low.grad, high.grad), (4, 8, 8), strict=True
    ):
        if grad is None:
            assert torch.equal(now, then)
            continue
        # where it is so small that the order of sums decides, either sign will do
        clear = grad.abs() > 1e-4 * grad.abs().max()
        moved = ((now - then) * rate).round()
        assert torch.equal(moved[clear], -grad.sign()[clear])


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_wherever_it_goes_it_is_a_cell_of_the_same_layout(scheme: Scheme) -> None:
    cell, weight = drawn(scheme, 2)
    rounding = Rounding(cell, weight)
    draw = torch.Generator().manual_seed(2)
    for _ in range(5):
        gradient = torch.randn(16, 64, generator=draw)
        gradient[0, 0] = torch.inf
        gradient[1, 1] = torch.nan
        rounding.step(gradient, Rates(offset=0.7, ends=0.4, momentum=0.5))
    found = rounding.learned()
    assert not torch.equal(found.codes, cell.codes)
    for part in ("codes", "scale", "zero"):
        now, then = getattr(found, part), getattr(cell, part)
        assert (now is None) == (then is None)
        if now is not None:
            assert (now.dtype, now.shape) == (then.dtype, then.shape)
            assert bool(torch.isfinite(now.float()).all())
    assert int(found.codes.max()) <= 3
    assert bool((found.scale > 0).all())
    if found.zero is not None and not found.zero.is_floating_point():
        assert int(found.zero.max()) <= 3
    assert torch.equal(decode(found.codes, found), rounding.value())
