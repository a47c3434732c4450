from __future__ import annotations

import pytest

from allocator.core.allocation import GROUP_SIZES, WIDTHS, Scheme
from allocator.core.errors import SpecError, UnknownNameError
from allocator.core.layouts import LAYOUTS
from allocator.core.plan import Plan, plan_json
from allocator.core.spec import EXTRAS, Linear, ModelSpec, build_groups
from allocator.core.study import StudySpec
from allocator.core.targets import TARGETS


def test_every_target_has_a_layout_and_known_widths_and_grids() -> None:
    for name, target in TARGETS.items():
        assert target.name == name
        assert target.layout in LAYOUTS
        assert set(target.widths) <= set(WIDTHS)
        assert 16 in target.widths
        assert set(target.group_sizes) <= set(GROUP_SIZES)
        assert set(target.extras) <= set(EXTRAS)
        assert set(target.notes) <= set(target.widths)


def test_without_a_target_everything_is_as_it_was() -> None:
    assert WIDTHS == (2, 3, 4, 5, 6, 8, 16)
    assert GROUP_SIZES == (128, 64, 32, "channel", "tensor")
    assert StudySpec.read({"budget": "4.0", "task": "vqav2"}) == StudySpec(
        "4.0", "vqav2"
    )
    assert Scheme().regrouped == []


@pytest.mark.parametrize(
    ("target", "asked", "rows", "own"),
    [
        # MLX has groups of 128, 64 and 32, and no others
        ("mlx", 128, 96, 32),
        ("mlx", 128, 960, 64),
        ("mlx", 64, 4096, 64),
        ("mlx", 128, 64, 64),
        ("llama.cpp", 32, 4096, 32),
        # one group as long as a row is read, and so is one scale a row
        ("transformers", 128, 96, 96),
        ("transformers", 128, 3420, "channel"),
        ("vllm", 128, 96, 96),
        ("vllm", "channel", 4096, "channel"),
    ],
)
def test_a_target_says_which_groups_rows_are_cut_into(
    target: str, asked: int | str, rows: int, own: int | str
) -> None:
    scheme = Scheme(asked, symmetric=target == "llama.cpp", target=target)
    assert scheme.group_size_of(rows) == own


def test_rows_that_a_target_cuts_otherwise_are_known() -> None:
    assert Scheme(128, target="mlx").regrouped == [96]
    assert Scheme(64, target="mlx").regrouped == []
    assert Scheme(32, True, target="llama.cpp").regrouped == []
    assert Scheme("channel", target="vllm").regrouped == []


@pytest.mark.parametrize(
    ("target", "group_size", "symmetric", "words"),
    [
        (
            "transformers",
            "tensor",
            False,
            "'tensor' is not one of 128, 64, 32, channel",
        ),
        ("vllm", "tensor", True, "a scale for each group or row"),
        ("mlx", "channel", False, "'channel' is not one of 128, 64, 32 .*MLX has"),
        ("llama.cpp", 128, True, "128 is not one of 32 .*Q4_0, Q5_0 and Q8_0"),
        ("llama.cpp", 32, False, "asymmetric grids are not possible, only symmetric"),
    ],
)
def test_a_grid_that_a_target_does_not_read_is_refused_with_the_reason(
    target: str, group_size: int | str, symmetric: bool, words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        Scheme(group_size, symmetric, target=target)


def test_a_target_that_there_is_none_of_is_refused_with_the_near_miss() -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'llama.cpp'\?"):
        Scheme(target="llama-cpp")
    with pytest.raises(SpecError, match="target = 3 is of the wrong type: it is text"):
        StudySpec.read({"budget": "4.0", "task": "vqav2", "target": 3})


def test_a_width_without_a_kernel_is_refused() -> None:
    with pytest.raises(SpecError, match=r"width 3 is not .* 4, 5, 8, 16 \(--target l"):
        StudySpec.read(
            {"budget": "4.0", "task": "vqav2", "target": "llama.cpp", "widths": [3, 4]}
        )


def test_a_target_sets_what_is_not_given() -> None:
    asked = {"budget": "4.0", "task": "vqav2", "target": "llama.cpp"}
    found = StudySpec.read(asked)
    assert found.widths == (4, 5, 8, 16)
    assert found.scheme == Scheme(32, symmetric=True, target="llama.cpp")
    assert StudySpec.read({**asked, "widths": [4, 8]}).widths == (4, 8)
    assert StudySpec.read({**asked, "target": "mlx"}).scheme == Scheme(target="mlx")
    # what is kept of it is read again
    assert StudySpec.read(found.to_json()) == found


def test_a_plan_keeps_its_target() -> None:
    linears = [Linear("x", "language", 0, "attn", 64, 96)]
    spec = ModelSpec("toy", 6_144, build_groups(linears), ())
    asked = StudySpec.read({"budget": "6", "task": "vqav2", "target": "mlx"})
    groups = {spec.keys[0]: {"bits": 4, "method": "gptq"}}
    allocation = Plan.from_json({"model": "m", "groups": groups}, "x").allocation(spec)
    kept = plan_json(asked, spec, allocation)
    assert kept["scheme"]["target"] == "mlx"
    assert kept["layers"]["x"]["group_size"] == 32
    plan = Plan.from_json(kept, "x")
    assert plan.scheme == Scheme(target="mlx")
    assert plan.allocation(spec) == allocation
    # the same for no target has one scale a row
    kept["scheme"]["target"] = "none"
    with pytest.raises(SpecError, match="group size 32, and its rows of 96 take 96"):
        Plan.from_json(kept, "x").allocation(spec)
