"""Run: pytest tests/quant/test_products.py"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.allocation import Scheme
from allocator.core.plugins import available, load
from quant.drift import Drift
from quant.hessian import InputStatistics, inverse_factor
from quant.products import (
    LONGEST,
    add_product_,
    product,
    subtract_product_,
    weighted_sum,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# 2 and 3 threads cut rows, columns and sums in unlike places
THREADS = (1, 2, 3)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def on_threads(work: Callable[[], Any]) -> list[Any]:
    """What comes out on each number of threads."""
    found = []
    for count in THREADS:
        torch.set_num_threads(count)
        found.append(work())
    return found


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def statistics_of(batches: list[torch.Tensor]) -> InputStatistics:
    found = InputStatistics.empty(batches[0].shape[1])
    for batch in batches:
        found.add(batch)
    return found


@pytest.mark.parametrize("terms", [0, 1, LONGEST, LONGEST + 1, 3 * LONGEST])
def test_pieces_add_up_to_the_product(terms: int) -> None:
    # whole numbers are exact in float32, in whatever order they are added
    left = (drawn(5, terms) * 4).round()
    right = (drawn(terms, 7, seed=1) * 4).round()
    whole = (left.double() @ right.double()).float()
    start = torch.full((5, 7), 3.0)
    assert torch.equal(product(left, right), whole)
    assert torch.equal(add_product_(start.clone(), left, right), start + whole)
    assert torch.equal(subtract_product_(start.clone(), left, right), start - whole)
    assert torch.equal(weighted_sum(left[0], right.clone()), whole[0])


@pytest.mark.parametrize("features", [64, 128, 300])
def test_statistics_do_not_depend_on_the_number_of_threads(features: int) -> None:
    batches = [drawn(700, features), drawn(188, features, seed=1)]
    found = on_threads(lambda: statistics_of(batches))
    for other in found[1:]:
        assert torch.equal(found[0].hessian, other.hessian)
        assert torch.equal(found[0].mean_abs, other.mean_abs)


def test_factors_do_not_depend_on_the_number_of_threads() -> None:
    hessian = statistics_of([drawn(1000, 300)]).hessian
    first, *others = on_threads(lambda: inverse_factor(hessian))
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("name", available("quant.methods"))
def test_cells_do_not_depend_on_the_number_of_threads(name: str) -> None:
    method = load("quant.methods", name)
    weights = [drawn(48, 320, seed=2), drawn(80, 320, seed=3)]
    batches = [drawn(700, 320) * torch.arange(1, 321) / 100]

    def cells() -> list[Any]:
        inputs = statistics_of(batches)
        made = method.quantize(weights, inputs, Scheme(64), (2, 4), foldable=True)
        return [cell for bits in (2, 4) for cell in made[bits]]

    first, *others = on_threads(cells)
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert torch.equal(one.codes, two.codes)
            assert torch.equal(one.scale, two.scale)


def test_corrections_do_not_depend_on_the_number_of_threads() -> None:
    full, weight = drawn(900, 300), drawn(70, 300, seed=4)
    read = full + 0.1 * drawn(900, 300, seed=5)

    def corrected() -> torch.Tensor:
        drift = Drift.empty(300)
        drift.add(full, read)
        return drift.corrected([weight])[0]

    first, *others = on_threads(corrected)
    assert not torch.equal(first, weight)
    assert all(torch.equal(first, other) for other in others)
