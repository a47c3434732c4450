from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.errors import SpecError
from allocator.core.plan import Plan, plan_json
from allocator.core.spec import Linear, ModelSpec, build_groups
from allocator.core.study import StudySpec

if TYPE_CHECKING:
    from pathlib import Path

GROUPS = {
    "vision.all.all": {"bits": 4, "method": "gptq"},
    "language.all.all": {"bits": 16, "method": None},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "plan.json"


def asked(**given: Any) -> StudySpec:
    return StudySpec(budget="4.0", task="vqav2", **given)


def mixed(spec: ModelSpec) -> Allocation:
    uniform = Allocation.uniform(spec, Choice(3, "gptq"))
    return uniform.replace(
        {"connector.all.all": Choice(16), "language.all.ff": Choice(8, "awq")}
    )


def test_what_was_written_is_read_back(toy: ModelSpec, file: Path) -> None:
    study = asked(model="m", group_size=64, symmetric=True, seed=3, calibration=16)
    file.write_text(json.dumps(plan_json(study, toy, mixed(toy))))
    plan = Plan.read(file)
    assert (plan.model, plan.scheme) == ("m", Scheme(64, symmetric=True))
    assert (plan.seed, plan.calibration) == (3, 16)
    assert plan.allocation(toy) == mixed(toy)


def test_a_plan_by_hand_needs_no_scheme_and_no_method_at_sixteen_bits(
    file: Path,
) -> None:
    groups = {**GROUPS, "language.all.all": {"bits": 16}}
    file.write_text(json.dumps({"model": "m", "groups": groups}))
    plan = Plan.read(file)
    assert plan.scheme == Scheme(128, symmetric=False)
    assert plan.groups["language.all.all"] == Choice(16)


def test_a_plan_names_the_methods_and_widths_it_uses(
    toy: ModelSpec, file: Path
) -> None:
    file.write_text(json.dumps(plan_json(asked(), toy, mixed(toy))))
    plan = Plan.read(file)
    assert plan.methods == ("awq", "gptq")
    assert plan.widths == (3, 8, 16)


def test_sixteen_is_among_the_widths_even_where_no_group_uses_it(file: Path) -> None:
    groups = {"vision.all.all": {"bits": 4, "method": "gptq"}}
    file.write_text(json.dumps({"model": "m", "groups": groups}))
    assert Plan.read(file).widths == (4, 16)


def test_layers_spell_out_every_linear_by_its_full_name(toy: ModelSpec) -> None:
    layers = plan_json(asked(), toy, mixed(toy))["layers"]
    assert list(layers) == [linear.name for linear in toy.linears]
    # 64 inputs are fewer than 128, and so are 96
    assert layers["vision.0.attn"] == {"bits": 3, "method": "gptq", "group_size": 64}
    assert layers["language.1.ff"] == {"bits": 8, "method": "awq", "group_size": 96}
    assert layers["projector"] == {"bits": 16, "method": None, "group_size": None}


def test_layers_of_a_grid_per_channel_say_so(toy: ModelSpec) -> None:
    layers = plan_json(asked(group_size="channel"), toy, mixed(toy))["layers"]
    assert layers["vision.0.ff"]["group_size"] == "channel"
    assert layers["projector"]["group_size"] is None


def test_a_plan_made_when_rows_were_cut_otherwise_is_refused(toy: ModelSpec) -> None:
    data = plan_json(asked(), toy, mixed(toy))
    assert Plan.from_json(data, "plan").allocation(toy) == mixed(toy)
    data["layers"]["language.0.attn"]["group_size"] = 32
    with pytest.raises(
        SpecError, match=r"language\.0\.attn has group size 32, .* rows of 96 take 96"
    ):
        Plan.from_json(data, "plan").allocation(toy)


def test_one_group_as_long_as_a_row_is_one_scale_a_row() -> None:
    narrow = Linear("narrow", "vision", None, "all", 4, 20)
    spec = ModelSpec("toy", 80, build_groups([narrow]), ())
    layers = {"narrow": {"bits": 4, "method": "gptq", "group_size": "channel"}}
    groups = {spec.keys[0]: {"bits": 4, "method": "gptq"}}
    plan = Plan.from_json({"model": "m", "groups": groups, "layers": layers}, "plan")
    assert plan.allocation(spec)[spec.keys[0]] == Choice(4, "gptq")


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(SpecError, match=r"there is no plan file .*plan\.json"):
        Plan.read(file)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"bits: 4", b"[" * 100_000]
)
def test_a_file_that_is_not_json_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(SpecError, match="cannot be read as JSON"):
        Plan.read(file)


@pytest.mark.parametrize(
    "content",
    [
        [],
        "plan",
        {},
        {"model": "m"},
        {"groups": GROUPS},
        {"model": "m", "groups": ["vision.all.all"]},
        {"model": "m", "groups": {"vision.all.all": 4}},
        {"model": "m", "groups": {"vision.all.all": {"method": "gptq"}}},
        {"model": "m", "groups": GROUPS, "scheme": 128},
        {"model": "m", "groups": GROUPS, "scheme": {"symmetric": "no"}},
        {"model": "m", "groups": GROUPS, "seed": "x"},
        {"model": "m", "groups": GROUPS, "seed": True},
        {"model": "m", "groups": GROUPS, "calibration": 1.5},
        {"model": "m", "groups": {"a": {"bits": 4, "method": ["gptq"]}}},
        {"model": "m", "groups": GROUPS, "layers": []},
        {"model": "m", "groups": GROUPS, "finalized": True},
    ],
)
def test_json_that_is_no_plan_is_answered_with_the_shape_of_one(
    file: Path, content: Any
) -> None:
    file.write_text(json.dumps(content))
    with pytest.raises(SpecError, match=r'is not a plan .*"groups": \{key'):
        Plan.read(file)


@pytest.mark.parametrize("bits", [7, "4", None, [4]])
def test_an_impossible_width_is_refused(file: Path, bits: Any) -> None:
    groups = {"vision.all.all": {"bits": bits, "method": "gptq"}}
    file.write_text(json.dumps({"model": "m", "groups": groups}))
    with pytest.raises(SpecError, match="is not one of 2, 3, 4, 5, 6, 8, 16"):
        Plan.read(file)


def test_the_groups_of_another_model_are_refused(toy: ModelSpec, file: Path) -> None:
    file.write_text(json.dumps({"model": "m", "groups": GROUPS}))
    with pytest.raises(SpecError, match=r"unknown: \['language.all.all', 'vision.all"):
        Plan.read(file).allocation(toy)


def test_a_plan_keeps_how_its_score_was_measured(toy: ModelSpec, file: Path) -> None:
    study = asked(fraction=0.2, beams=3)
    file.write_text(json.dumps(plan_json(study, toy, mixed(toy))))
    assert Plan.read(file).asked == {"task": "vqav2", "fraction": 0.2, "beams": 3}


def test_a_plan_keeps_the_words_and_the_length_that_were_given(
    toy: ModelSpec, file: Path
) -> None:
    given = {"prompt": "Q: {question}\nA:", "max_new_tokens": 32}
    plan = plan_json(asked(**given), toy, mixed(toy))
    file.write_text(json.dumps(plan))
    assert Plan.read(file).asked.items() >= given.items()
    assert not plan_json(asked(), toy, mixed(toy)).keys() & given.keys()


def test_a_layer_that_contradicts_its_group_is_refused(
    toy: ModelSpec, file: Path
) -> None:
    plan = plan_json(asked(), toy, mixed(toy))
    plan["layers"]["vision.0.attn"]["bits"] = 8
    file.write_text(json.dumps(plan))
    with pytest.raises(SpecError, match=r"vision.0.attn has 8/gptq, and its group 3"):
        Plan.read(file).allocation(toy)
    plan["layers"] = {"nobody": {"bits": 16, "method": None}}
    file.write_text(json.dumps(plan))
    with pytest.raises(SpecError, match="layer nobody has 16"):
        Plan.read(file).allocation(toy)


def test_a_plan_names_its_finalized_weights_or_none(toy: ModelSpec, file: Path) -> None:
    plan = plan_json(asked(), toy, mixed(toy), "0123456789abcdef")
    file.write_text(json.dumps(plan))
    assert Plan.read(file).finalized == "0123456789abcdef"
    file.write_text(json.dumps(plan_json(asked(), toy, mixed(toy))))
    assert Plan.read(file).finalized is None
    # plans of before, and by hand, say nothing of it
    file.write_text(json.dumps({"model": "m", "groups": GROUPS}))
    assert Plan.read(file).finalized is None


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"bits": 7, "method": "gptq"}, "width 7 is not one of"),
        ({"bits": "4", "method": "gptq"}, "width 4 is not one of"),
        ({"bits": 16, "method": "gptq"}, "16 bits take no method"),
    ],
)
def test_a_choice_that_cannot_be_is_told_with_its_file_and_group(
    choice: dict[str, Any], said: str, file: Path
) -> None:
    groups = {**GROUPS, "vision.all.all": choice}
    file.write_text(json.dumps({"model": "m", "groups": groups}))
    with pytest.raises(SpecError, match=rf"plan\.json: vision\.all\.all: .*{said}"):
        Plan.read(file)


def test_exceptions_are_written_and_read_back(toy: ModelSpec, file: Path) -> None:
    found = mixed(toy).but({"vision.1.ff": Choice(5, "uniform")})
    written = plan_json(asked(model="m"), toy, found)
    assert written["layers"]["vision.1.ff"] == {
        **{"bits": 5, "method": "uniform", "group_size": 64},
        **{"exception": True, "group": "vision.middle.ff"},
    }
    assert "exception" not in written["layers"]["vision.0.ff"]
    file.write_text(json.dumps(written))
    plan = Plan.read(file)
    assert plan.allocation(toy) == found
    assert plan.methods == ("awq", "gptq", "uniform")
    assert plan.widths == (3, 5, 8, 16)


def test_a_layer_that_differs_has_to_say_that_it_is_an_exception(
    toy: ModelSpec, file: Path
) -> None:
    written = plan_json(asked(model="m"), toy, mixed(toy))
    written["layers"]["vision.1.ff"]["bits"] = 5
    file.write_text(json.dumps(written))
    with pytest.raises(SpecError, match=r'vision\.1\.ff has 5/gptq.*"exception": true'):
        Plan.read(file).allocation(toy)


def test_an_exception_names_a_linear_of_the_model(toy: ModelSpec, file: Path) -> None:
    written = plan_json(asked(model="m"), toy, mixed(toy))
    written["layers"]["nobody"] = {"bits": 4, "method": "awq", "exception": True}
    file.write_text(json.dumps(written))
    with pytest.raises(SpecError, match="layer nobody"):
        Plan.read(file).allocation(toy)
