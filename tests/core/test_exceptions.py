"""Single linears that differ from their groups."""

from __future__ import annotations

from dataclasses import replace

import pytest

from allocator.core.allocation import Allocation, Choice, Scheme, digest, stored_size
from allocator.core.errors import SpecError
from allocator.core.exceptions import by_group
from allocator.core.plan import Plan, plan_json
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.core.study import StudySpec


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


def test_a_plan_tells_exceptions_by_group(toy: ModelSpec) -> None:
    whole = Allocation.uniform(toy, Choice(4, "gptq"))
    changes = {"vision.1.ff": Choice(16), "projector": Choice(2, "awq")}
    plan = plan_json(StudySpec("4", "vqav2"), toy, whole.but(changes))
    assert by_group(plan) == {
        "vision.middle.ff": {"vision.1.ff": {"bits": 16, "method": None}},
        "connector.all.all": {"projector": {"bits": 2, "method": "awq"}},
    }
    # a plan of before, and one by hand
    layers = {name: {"bits": 4, "method": "gptq"} for name in changes}
    assert by_group({"layers": layers}) == by_group({}) == {}


def test_a_plan_for_a_target_has_one_width_in_what_it_fuses() -> None:
    names = [f"language.0.{name}" for name in ("q_proj", "k_proj", "v_proj")]
    linears = [Linear(x, "language", 0, "attn", 64, 64) for x in names]
    spec = ModelSpec("toy", 3 * 64 * 64, build_groups(linears), ())
    found = Allocation.uniform(spec, Choice(4, "gptq")).but(
        {names[0]: Choice(8, "awq")}
    )
    for target in ("none", "vllm"):
        asked = StudySpec.read({"budget": "8", "task": "vqav2", "target": target})
        plan = Plan.from_json(plan_json(asked, spec, found), "plan.json")
        if target == "none":
            assert plan.allocation(spec) == found
            continue
        with pytest.raises(SpecError, match=r"target vllm holds as one .*q_proj 8/awq"):
            plan.allocation(spec)
