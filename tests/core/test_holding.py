from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from allocator.core.allocation import Allocation, Choice, Scheme, stored_size
from allocator.core.errors import SpecError
from allocator.core.holding import within_target
from allocator.core.spec import LeftOut, Linear, ModelSpec, build_groups
from allocator.core.targets import TARGETS

KINDS = "q_proj", "k_proj", "v_proj", "o_proj"


def attention(block: int, shapes: dict[str, tuple[int, int]]) -> list[Linear]:
    return [
        Linear(f"layers.{block}.{name}", "language", block, "attn", *shapes[name])
        for name in KINDS
        if name in shapes
    ]


def spec_of(
    linears: list[Linear], rest: int = 0, model_type: str = "llava"
) -> ModelSpec:
    parameters = sum(linear.weights for linear in linears) + rest
    others = (("norm.weight", (rest,)),) if rest else ()
    return ModelSpec(
        *("toy", parameters, build_groups(linears), ()),
        others=others,
        model_type=model_type,
    )


def named(spec: ModelSpec) -> dict[str, str]:
    return {left.name: left.reason for left in spec.left_out}


@pytest.mark.parametrize("target", ["none", "transformers"])
def test_what_holds_everything_leaves_the_model_as_it_is(target: str) -> None:
    spec = spec_of(attention(0, {"q_proj": (33, 3420), "o_proj": (7, 300)}), 64)
    assert within_target(spec, Scheme(target=target)) == spec


def test_rows_that_no_group_divides_stay_at_sixteen_bits() -> None:
    vision = [
        Linear("vision.up", "vision", 0, "ff", 64, 3420),
        Linear("vision.down", "vision", 0, "ff", 64, 96),
    ]
    spec = spec_of([*vision, *attention(0, {"o_proj": (64, 64)})], 8)
    found = within_target(spec, Scheme(target="mlx"))
    assert named(found) == {"vision.up": "mlx: rows of 3,420, no multiple of 32"}
    assert [linear.name for linear in found.linears] == [
        "vision.down",
        "layers.0.o_proj",
    ]
    assert found.keys == spec.keys
    assert found.rest == spec.rest + 64 * 3420
    assert found.others == (("norm.weight", (8,)), ("vision.up.weight", (64, 3420)))
    assert found.parameters == spec.parameters


def test_a_group_that_loses_all_its_linears_is_gone() -> None:
    odd = Linear("projector", "connector", None, "all", 64, 100)
    spec = spec_of([odd, *attention(0, {"o_proj": (64, 64)})])
    assert within_target(spec, Scheme(target="mlx")).keys == ("language.all.attn",)


def test_outputs_that_no_kernel_takes_stay_with_what_is_fused_with_them() -> None:
    own = {"q_proj": (64, 64), "k_proj": (48, 64), "v_proj": (64, 64)}
    both = {**own, "o_proj": (64, 64)}
    spec = spec_of([*attention(0, both), *attention(1, {**both, "k_proj": (64, 64)})])
    found = within_target(spec, Scheme(target="vllm"))
    assert named(found) == {
        "layers.0.k_proj": "vllm: 48 outputs, no multiple of 32",
        "layers.0.q_proj": "vllm: one matrix with layers.0.k_proj",
        "layers.0.v_proj": "vllm: one matrix with layers.0.k_proj",
    }
    assert len(found.linears) == 5


def test_inputs_that_no_kernel_takes_stay_at_sixteen_bits() -> None:
    spec = spec_of(attention(0, {"q_proj": (64, 80), "o_proj": (64, 64)}))
    reason = named(within_target(spec, Scheme(target="vllm")))["layers.0.q_proj"]
    assert reason == "vllm: 80 inputs, no multiple of 32"


def test_linears_that_a_runtime_builds_as_plain_ones_stay_at_sixteen_bits() -> None:
    projector = Linear(
        "model.multi_modal_projector.linear_1", "connector", None, "all", 64, 64
    )
    linears = [projector, *attention(0, {"o_proj": (64, 64)})]
    scheme = Scheme(target="vllm")
    assert named(within_target(spec_of(linears), scheme)) == {}
    found = within_target(spec_of(linears, model_type="llava_onevision"), scheme)
    assert list(named(found)) == [projector.name]


@pytest.mark.parametrize(
    ("target", "model_type", "words"),
    [
        ("mlx", "blip-2", "target mlx .* 'blip-2': it has no .*; it takes llava,"),
        ("vllm", "blip-2", "target vllm .* 'blip-2': its vision tower has no name"),
        (
            "llama.cpp",
            "paligemma",
            "these were not tried; it takes qwen2_5",
        ),
    ],
)
def test_a_model_that_a_runtime_has_no_code_for_is_refused(
    target: str, model_type: str, words: str
) -> None:
    spec = spec_of(attention(0, {"o_proj": (64, 64)}), model_type=model_type)
    sizes = TARGETS[target].defaults
    scheme = Scheme(sizes["group_size"], sizes["symmetric"], target=target)
    with pytest.raises(SpecError, match=words):
        within_target(spec, scheme)


def test_a_model_of_which_nothing_can_be_held_is_refused() -> None:
    spec = spec_of(attention(0, {"o_proj": (64, 100)}))
    with pytest.raises(SpecError, match=r"no linear .* layers\.0\.o_proj: rows of 100"):
        within_target(spec, Scheme(target="mlx"))


def test_parts_that_a_runtime_keeps_at_sixteen_bits_cannot_be_included() -> None:
    head = Linear("lm_head", "language", None, "head", 64, 64)
    spec = spec_of([*attention(0, {"o_proj": (64, 64)}), head])
    assert within_target(spec, Scheme(target="mlx")) == spec
    with pytest.raises(SpecError, match="keeps the head at 16 bits: take head out"):
        within_target(spec, Scheme(target="vllm"))
    tied = replace(spec, head=head.weights, tied=True, model_type="qwen3_vl")
    assert within_target(tied, Scheme(32, True, target="llama.cpp")) == tied
    assert within_target(tied, Scheme(target="mlx")) == tied
    with pytest.raises(SpecError, match="one matrix, as they are here"):
        within_target(tied, Scheme(target="transformers"))


@pytest.mark.parametrize("target", TARGETS)
def test_no_parameter_is_lost_whatever_is_left_out(target: str) -> None:
    rng, sizes = random.Random(0), TARGETS[target].defaults
    scheme = Scheme(sizes["group_size"], sizes["symmetric"], target=target)
    choices = [Choice(b, None if b == 16 else "gptq") for b in sizes["widths"]]
    shapes = (32, 48, 64, 96, 128, 300)
    for _ in range(50):
        linears = [
            linear
            for block in range(3)
            for linear in attention(
                block, {k: (rng.choice(shapes), rng.choice(shapes)) for k in KINDS}
            )
        ]
        whole = spec_of([*linears, *attention(3, dict.fromkeys(KINDS, (64, 64)))], 64)
        spec = within_target(replace(whole, model_type="qwen2_5_vl"), scheme)
        assert isinstance(spec.left_out, tuple)
        assert all(isinstance(left, LeftOut) for left in spec.left_out)
        kept = sum(math.prod(shape) for _, shape in spec.others)
        assert kept == spec.rest == spec.parameters - spec.weights
        picks = {key: rng.choice(choices) for key in spec.keys}
        size = stored_size(spec, scheme, Allocation.of(spec.keys, picks))
        # the 16-bit parts alone, and everything in 16 bits with every vector in 32
        assert 2 * spec.rest < size.model_bytes <= 2 * spec.parameters + 2 * 64
