"""Scales fold into what comes before: worked out by hand, in 16 bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from allocator.core.ports import Siblings, Stage
from quant.folding import FoldError, Folds, common, divided, folded, settled
from quant.grid import Cell, decode

NORM = Siblings(("q", "k"), "norm")
SCALE = torch.tensor([2.0, 0.5], dtype=torch.float16)


def parameters(**more: Any) -> dict[str, torch.Tensor]:
    """A norm with a bias, two linears that read it, and one between two others."""
    given = {
        "norm.weight": [1.0, 3.0],
        "norm.bias": [4.0, 0.25],
        "q.weight": [[1.0, 2.0]],
        "k.weight": [[3.0, 4.0]],
        "v.weight": [[1.0, 2.0], [3.0, 4.0]],
        "v.bias": [6.0, 8.0],
        **more,
    }
    return {name: torch.tensor(value) for name, value in given.items()}


def cell(scale: Any, channel_scale: torch.Tensor | None = None, **more: Any) -> Cell:
    given = {
        "codes": torch.tensor([[0, 3], [1, 2]], dtype=torch.uint8),
        "scale": torch.tensor(scale, dtype=torch.float16),
        "zero": torch.tensor([[1], [2]], dtype=torch.uint8),
        "columns": 2,
        "bits": 2,
        **more,
    }
    return Cell(**given, channel_scale=channel_scale)


def test_a_norm_is_divided_with_its_bias() -> None:
    folds = Folds(parameters(), torch.float16)
    folds.add(NORM, SCALE, low={"q", "k"})
    assert {name: x.tolist() for name, x in folds.changed.items()} == {
        "norm.weight": [0.5, 6.0],
        "norm.bias": [2.0, 0.5],
    }
    assert {x.dtype for x in folds.changed.values()} == {torch.float16}


def test_a_norm_that_adds_one_is_divided_with_that() -> None:
    folds = Folds(parameters(), torch.float16)
    folds.add(Siblings(("q", "k"), "norm", added=1.0), SCALE, low={"q", "k"})
    # gains of 2 and 4 become 1 and 8
    assert folds.changed["norm.weight"].tolist() == [0.0, 7.0]
    assert folds.changed["norm.bias"].tolist() == [2.0, 0.5]


def test_rows_and_bias_of_a_linear_at_sixteen_bits_are_divided() -> None:
    folds = Folds(parameters(), torch.float16)
    folds.add(Siblings(("o",), "v"), SCALE, low={"o"})
    assert folds.changed["v.weight"].tolist() == [[0.5, 1.0], [6.0, 8.0]]
    assert folds.changed["v.bias"].tolist() == [3.0, 16.0]


def test_a_grid_is_divided_row_by_row_and_keeps_its_codes() -> None:
    folds = Folds(parameters(), torch.float16)
    folds.add(Siblings(("o",), "v"), SCALE, low={"o", "v"})
    # its bias has no codes; the scale on its inputs is another's affair
    assert {n: x.tolist() for n, x in folds.changed.items()} == {"v.bias": [3.0, 16.0]}
    own = cell([[1.0], [4.0]], channel_scale=torch.ones(2).half())
    made = folds.cell("v", own)
    assert made.channel_scale is None
    assert made.scale.tolist() == [[0.5], [8.0]]
    assert decode(made.codes, made).tolist() == [[-0.5, 1.0], [-8.0, 0.0]]
    other = folds.cell("o", cell([[1.0], [4.0]], channel_scale=SCALE))
    assert other.channel_scale is None
    assert other.scale.tolist() == [[1.0], [4.0]]


def test_what_reads_the_same_input_and_has_no_cell_is_multiplied() -> None:
    folds = Folds(parameters(), torch.float16)
    folds.add(NORM, SCALE, low={"q"})
    assert folds.changed["k.weight"].tolist() == [[6.0, 2.0]]
    assert "q.weight" not in folds.changed


def test_numbers_are_rounded_to_the_type_once() -> None:
    third = torch.tensor([3.0, 3.0]).half()
    for dtype in (torch.float16, torch.bfloat16):
        folds = Folds(parameters(), dtype)
        folds.add(NORM, third, low={"q", "k"})
        exact = torch.tensor([1.0, 3.0]) / 3
        assert torch.equal(folds.changed["norm.weight"], exact.to(dtype))


@pytest.mark.parametrize(
    ("change", "siblings"),
    [
        # 60000 / 0.5 is beyond fp16
        ({"norm.weight": [1.0, 60000.0]}, NORM),
        ({"k.weight": [[60000.0, 1.0]]}, NORM),
        ({"v.bias": [1.0, 60000.0]}, Siblings(("q",), "v")),
        # nothing is left of numbers as small as these
        ({"norm.weight": [2.0**-24, 2.0**-24]}, NORM),
        # 1 + w is 2**-9, and w near -1 has steps of 2**-11
        ({"norm.weight": [-0.998, -0.998]}, Siblings(("q", "k"), "norm", added=1.0)),
    ],
)
def test_what_the_type_does_not_hold_is_refused_and_nothing_changes(
    change: dict[str, Any], siblings: Siblings
) -> None:
    folds = Folds(parameters(**change), torch.float16)
    with pytest.raises(FoldError, match="numbers that float16 does not hold"):
        folds.add(siblings, torch.tensor([3.0, 0.5]).half(), low={"q"})
    assert not folds.changed
    assert not folds.rows


def test_a_grid_whose_scales_would_vanish_or_that_has_but_one_is_refused() -> None:
    tiny = cell([[2.0**-24], [2.0**-24]])
    with pytest.raises(FoldError, match="into v leaves numbers"):
        divided("v", tiny, torch.tensor([64.0, 64.0]))
    one = cell([[1.0]], zero=None)
    with pytest.raises(FoldError, match="rows of v share one grid"):
        divided("v", one, torch.tensor([2.0, 2.0]))


def test_a_few_numbers_near_zero_are_no_reason_to_refuse() -> None:
    weight = [1.0] * 99 + [1e-7]
    folds = Folds({"norm.weight": torch.tensor(weight)}, torch.float16)
    folds.add(Siblings(("q",), "norm"), torch.full((100,), 8.0), low={"q"})
    assert folds.changed["norm.weight"][:2].tolist() == [0.125, 0.125]


def test_siblings_share_one_scale_or_are_refused() -> None:
    assert common({"q": None, "k": None}) is None
    assert common({}) is None
    assert torch.equal(common({"q": SCALE, "k": SCALE.clone()}), SCALE)
    for others in ({"q": SCALE, "k": None}, {"q": SCALE, "k": 2 * SCALE}):
        with pytest.raises(FoldError, match="q and k read one input"):
            common(others)


def test_nothing_stands_before_a_set_without_a_fold() -> None:
    folds = Folds(parameters(), torch.float16)
    with pytest.raises(FoldError, match="no weight stands before"):
        folds.add(Siblings(("q", "k")), SCALE, low={"q", "k"})


def test_a_model_is_folded_set_by_set() -> None:
    stage = Stage(
        "s", "vision", dict, (), (NORM, Siblings(("v",)), Siblings(("o",), "v"))
    )
    scales = {"q": SCALE, "k": SCALE, "v": None, "o": SCALE}
    folds = folded([stage], scales, scales.__getitem__, parameters(), torch.bfloat16)
    assert set(folds.changed) == {"norm.weight", "norm.bias", "v.bias"}
    assert {name: rows.tolist() for name, rows in folds.rows.items()} == {
        "v": [2.0, 0.5]
    }


def test_only_parameters_that_are_stored_as_others_are_settled() -> None:
    whole, third = torch.tensor([1.0, 0.5]), torch.tensor([1 / 3])
    given = {"a": whole, "b": third, "c": whole}
    changed = {"c": torch.tensor([2.0, 0.5]).half()}
    found = dict(settled(given.items(), changed, torch.float16))
    assert set(found) == {"b", "c"}
    assert found["c"].tolist() == [2.0, 0.5]
    assert torch.equal(found["b"], third.half().float())
