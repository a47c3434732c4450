from __future__ import annotations

import itertools

import numpy as np
import pytest

from allocator.core.errors import SpecError
from surrogate.interaction_contrast import interaction_contrast

WIDTHS = [2, 3, 4, 5, 6, 8]
OWNERS = ["vision"] * 2 + ["connector"] + ["language"] * 2
PAIR = (OWNERS, "vision", "language")


def losses(bits: np.ndarray) -> np.ndarray:
    """Noise [n, 3] of the components at weights that differ from column to column."""
    noise = 16 * 4.0**-bits * [1.5, 0.5, 1, 0.2, 1.8]
    return np.stack(
        [noise[:, :2].mean(1), noise[:, 2], noise[:, 3:].mean(1)], axis=1
    ) * [0.2, 0.1, 0.3]


def scored(bits: np.ndarray, product: float, noise: float = 0.0) -> np.ndarray:
    """Scores that lose every component's noise and so much of a product."""
    loss = losses(bits)
    together_ = product * loss[:, 0] * loss[:, 2]
    rng = np.random.default_rng(5)
    return 1 - loss.sum(axis=1) - together_ + noise * rng.normal(size=len(bits))


def drawn(rows: int) -> np.ndarray:
    """Distinct rows, a few less than were drawn."""
    rng = np.random.default_rng(0)
    return np.unique(rng.choice(WIDTHS, (rows, 5)).astype(float), axis=0)


def rectangles() -> np.ndarray:
    """Four settings of a side, full precision among them, two of the rest."""
    sides = [(16, 16), (2, 3), (2, 2), (3, 8)]
    rest = itertools.product(sides, [(16,), (4,)], sides)
    return np.array([sum(parts, ()) for parts in rest], dtype=float)


def test_rectangles_give_the_mean_excess_itself() -> None:
    bits = rectangles()
    found = interaction_contrast(bits, scored(bits, 4), *PAIR)
    assert found is not None
    both = bits[(bits[:, 0] < 16) & (bits[:, 3] < 16)]
    loss = losses(both)
    # noise at full precision, some 1e-9, is all that is left out
    assert found.excess == pytest.approx(4 * (loss[:, 0] * loss[:, 2]).mean(), rel=1e-6)
    # three quantized settings of either side at two of the rest
    assert (found.basis, found.count) == ("measured", 18)
    assert 0 < found.ci95[0] < found.excess < found.ci95[1]


@pytest.mark.parametrize("rows", [rectangles(), drawn(300)], ids=["corners", "draws"])
@pytest.mark.parametrize(("product", "sign"), [(3, 1), (-3, -1)])
def test_the_sign_is_the_planted_one(rows: np.ndarray, product: int, sign: int) -> None:
    found = interaction_contrast(rows, scored(rows, product, 1e-3), *PAIR)
    assert found is not None
    assert sign * found.excess > 0
    assert min(sign * bound for bound in found.ci95) > 0


@pytest.mark.parametrize("rows", [rectangles(), drawn(300)], ids=["corners", "draws"])
def test_additive_losses_leave_nothing_to_excess(rows: np.ndarray) -> None:
    found = interaction_contrast(rows, scored(rows, 0, 1e-3), *PAIR)
    assert found is not None
    assert found.ci95[0] <= 0 <= found.ci95[1]
    assert found.ci95[1] - found.ci95[0] < 0.02


def test_a_fit_finds_the_excess_of_rows_without_corners() -> None:
    rows = drawn(400)
    found = interaction_contrast(rows, scored(rows, 4, 1e-3), *PAIR)
    assert found is not None
    loss = losses(rows)
    expected = 4 * (loss[:, 0] * loss[:, 2]).mean()
    assert (found.basis, found.count) == ("fitted", len(rows))
    # the mean over columns weighs them equally, the scores do not
    assert found.excess == pytest.approx(expected, rel=0.35)


def test_weights_make_the_fit_exact_where_they_are_the_scores() -> None:
    rows = drawn(400)
    weights = [1.5, 0.5, 1, 0.2, 1.8]
    found = interaction_contrast(rows, scored(rows, 4), *PAIR, weights=weights)
    assert found is not None
    loss = losses(rows)
    assert found.excess == pytest.approx(4 * (loss[:, 0] * loss[:, 2]).mean(), rel=1e-6)


def test_the_two_components_can_be_swapped() -> None:
    bits = rectangles()
    first = interaction_contrast(bits, scored(bits, 4), OWNERS, "vision", "language")
    second = interaction_contrast(bits, scored(bits, 4), OWNERS, "language", "vision")
    assert first is not None
    assert second is not None
    assert first.excess == pytest.approx(second.excess)


def test_too_few_rows_or_components_never_apart_cannot_tell() -> None:
    rows = drawn(15)
    assert interaction_contrast(rows, scored(rows, 4), *PAIR) is None
    # language always as vision: its loss and that of the pair are one thing
    rows = drawn(200)
    rows[:, 3:] = rows[:, :2]
    assert interaction_contrast(rows, scored(rows, 4), *PAIR) is None


def test_a_component_that_is_never_quantized_cannot_be_asked() -> None:
    rows = drawn(100)
    rows[:, 3:] = 16
    assert interaction_contrast(rows, scored(rows, 4), *PAIR) is None


def test_equal_scores_have_no_fit() -> None:
    assert interaction_contrast(drawn(100), [0.1] * len(drawn(100)), *PAIR) is None


def test_unit_and_order_of_the_rows_do_not_matter() -> None:
    rows = drawn(120)
    scores = scored(rows, 3, 1e-3)
    order = np.random.default_rng(1).permutation(len(rows))
    first = interaction_contrast(rows, scores, *PAIR)
    assert first == interaction_contrast(rows[order], scores[order], *PAIR)
    large = interaction_contrast(rows, 95 * scores + 7, *PAIR)
    assert first is not None
    assert large is not None
    np.testing.assert_allclose(large.ci95, np.multiply(first.ci95, 95), rtol=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "weights", "message"),
    [
        ("vision", "audio", None, "got vision and audio"),
        ("vision", "vision", None, "got vision and vision"),
        ("vision", "language", [1, 1], "as many weights above 0"),
        ("vision", "language", [1, 1, 0, 1, 1], "as many weights above 0"),
    ],
)
def test_impossible_questions_are_refused(
    first: str, second: str, weights: list[float] | None, message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        interaction_contrast(
            rectangles(), range(32), OWNERS, first, second, weights=weights
        )
