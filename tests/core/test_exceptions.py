"""Single linears that differ from their groups."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from allocator.core.allocation import Allocation, Choice, Scheme, digest, stored_size
from allocator.core.errors import SpecError
from allocator.core.spec import build_groups

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec


def test_a_single_linear_may_differ_from_its_group(toy: ModelSpec) -> None:
    whole = Allocation.uniform(toy, Choice(4, "gptq"))
    found = whole.but({"vision.1.ff": Choice(16), "projector": Choice(2, "awq")})
    chosen = found.of_linears(toy)
    assert chosen.pop("vision.1.ff") == Choice(16)
    assert chosen.pop("projector") == Choice(2, "awq")
    assert set(chosen.values()) == {Choice(4, "gptq")}
    # 96 x 64 at 2 bits in place of 4, 128 x 64 at 16: codes, scales, zero-points, shape
    narrower = 96 * (64 * 2 + 2) / 8
    wider = 128 * 64 * 2 - 128 * (64 * 4 + 16 + 4) / 8 - 16
    before = stored_size(toy, Scheme(), whole).model_bytes
    after = stored_size(toy, Scheme(), found).model_bytes
    assert after == before - narrower + wider


def test_exceptions_are_part_of_the_name_and_none_leaves_it_as_it_was(
    toy: ModelSpec,
) -> None:
    whole = Allocation.uniform(toy, Choice(4, "gptq"))
    one, other = (whole.but({name: Choice(2, "gptq")}) for name in ("vision.0.ff", "x"))
    assert len({whole.digest, one.digest, other.digest}) == 3
    assert whole.but({}).digest == whole.digest == digest(whole.to_json())
    with pytest.raises(SpecError, match="no linear 'x' in a group"):
        other.of_linears(toy)


def test_a_group_has_what_most_of_its_weights_have(toy: ModelSpec) -> None:
    wide, narrow = Choice(8, "awq"), Choice(2, "gptq")
    chosen = {x.name: wide if x.type == "ff" else narrow for x in toy.linears}
    fine = toy.by_linear()
    assert fine.keys[0] == "vision.vision.0.attn"
    coarse = replace(toy, groups=build_groups(toy.linears, "component"))
    found = Allocation.from_linears(coarse, chosen)
    assert dict(found.choices) == {
        **{"vision.all.all": wide, "connector.all.all": narrow},
        "language.all.all": wide,
    }
    assert [name for name, _ in found.layers] == sorted(
        x.name for x in toy.linears if x.type == "attn"
    )
    assert found.of_linears(coarse) == chosen
    spread = found.over(coarse, fine)
    assert not spread.layers
    assert spread.over(fine, coarse) == found
    read = Allocation.from_json(coarse, found.to_json(), found.layers_json())
    assert read == found


def test_linears_that_go_together_share_a_group(toy: ModelSpec) -> None:
    fine = toy.by_linear([["language.0.attn", "language.0.ff"]])
    shared = next(g for g in fine.groups if g.key == "language.language.0.attn")
    assert [x.name for x in shared.linears] == ["language.0.attn", "language.0.ff"]
    assert len(fine.groups) == len(toy.linears) - 1
