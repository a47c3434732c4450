from __future__ import annotations

import pytest

from allocator.bench.imported._names import Names
from allocator.bench.imported._said import AS_IT_IS, Kind, Pattern, Rule
from allocator.core.errors import SpecError
from tests.bench.imported.llava import TEXT, TOWER, spec

NAMES = Names(spec())
Q, TOWER_Q = f"{TEXT}.1.self_attn.q_proj", f"{TOWER}.1.self_attn.q_proj"
PROJECTOR = "model.multi_modal_projector.linear_1"


def of(kind: Kind, text: str, *within: Pattern) -> list[str]:
    return list(NAMES.of(Rule(Pattern(kind, text), AS_IT_IS, within)))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (Q, Q),
        (f"{Q}.weight", Q),
        # llava-hf/llava-1.5-7b-hf, as the files have it
        ("language_model.model.layers.1.self_attn.q_proj", Q),
        ("vision_tower.vision_model.encoder.layers.1.self_attn.q_proj", TOWER_Q),
        ("multi_modal_projector.linear_1", PROJECTOR),
        ("language_model.lm_head", "lm_head"),
        # saved by transformers 5, and without what is before all names
        ("vision_tower.encoder.layers.1.self_attn.q_proj", TOWER_Q),
        ("language_model.layers.1.self_attn.q_proj", Q),
        # a text model by itself
        ("model.layers.1.self_attn.q_proj", Q),
        # one linear ends so
        ("1.mlp.down_proj", f"{TEXT}.1.mlp.down_proj"),
    ],
)
def test_a_linear_is_found_under_the_names_of_other_layouts(
    name: str, ours: str
) -> None:
    assert of("name", name) == [ours]


def test_a_name_that_several_linears_end_with_is_refused() -> None:
    with pytest.raises(SpecError, match=f"may be any of {TOWER_Q}, {Q}"):
        of("name", "layers.1.self_attn.q_proj")


def test_a_name_of_no_linear_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(SpecError, match=r"no linear of this model; did it mean '.*q_p"):
        of("name", "model.layers.1.self_attn.q_prj")
    with pytest.raises(SpecError, match=r"names '\.\*experts', which is no linear"):
        of("match", ".*experts")


def test_an_expression_is_read_in_the_first_layout_in_which_it_matches() -> None:
    assert of("match", r"language_model\.model\.layers\.1\.mlp") == [
        f"{TEXT}.1.mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")
    ]
    # "model.layers.1.self_attn.q_proj" would match too, in a layout of text models
    assert of("match", r"(?!.*language_model).*1\.self_attn\.q_proj") == [TOWER_Q]


def test_expressions_begin_with_a_name_or_are_found_in_it() -> None:
    # in the layout without what stands before all names
    assert of("match", r"multi_modal") == [PROJECTOR]
    with pytest.raises(SpecError, match="no linear"):
        of("match", "linear_1")
    assert of("search", "linear_1$") == [PROJECTOR]


def test_of_linears_in_some_places_those_elsewhere_are_left_out() -> None:
    language = Pattern("blocks", "language")
    assert of("search", r"1\.self_attn\.q_proj", language) == [Q]
    assert of("search", "linear_1", language) == [PROJECTOR]
    both = (Pattern("start", TOWER), Pattern("start", TEXT))
    assert of("search", r"1\.self_attn\.q_proj", *both) == [TOWER_Q, Q]


def test_a_class_is_every_linear_and_a_component_its_blocks() -> None:
    assert len(of("class", "Linear")) == 20
    assert len(of("blocks", "vision")) == 4
    assert len(of("blocks", "")) == 18
    with pytest.raises(SpecError, match="'LlamaAttention'"):
        of("class", "LlamaAttention")


def test_what_a_tool_adds_by_itself_may_match_nothing() -> None:
    rule = Rule(Pattern("glob", "*router*"), AS_IT_IS, optional=True)
    assert NAMES.of(rule) == ()
