"""Files as each tool writes them, and what they come to here."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench.imports import Imported, imported
from allocator.core.allocation import Scheme
from allocator.core.errors import SpecError
from tests.bench.imported.llava import TEXT, TOWER, spec

if TYPE_CHECKING:
    from pathlib import Path

Q, K, V = (f"{TEXT}.0.self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj"))
UP, DOWN = (f"{TEXT}.1.mlp.{name}" for name in ("up_proj", "down_proj"))
# as llm-compressor dumps it: flow style inside, block style outside
RECIPE = """default_stage:
  default_modifiers:
    GPTQModifier:
      config_groups:
        group_0:
          targets: ['re:.*self_attn.*']
          weights: {num_bits: 4, type: int, symmetric: true, strategy: group,
            group_size: 128, dynamic: false, actorder: null, observer: minmax}
          input_activations: null
        group_1:
          targets: [Linear]
          weights: {num_bits: 8, type: int, symmetric: true, strategy: channel}
        group_2:
          targets: [model.language_model.layers.0.self_attn.v_proj]
          weights: {num_bits: 6, type: int, symmetric: false, group_size: 128}
      ignore: ['re:.*lm_head', 're:.*vision_tower.*']
      block_size: 128
      dampening_frac: 0.01
"""


def read(tmp_path: Path, content: Any, name: str = "file", **more: Any) -> Imported:
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return imported(file, spec(), Scheme(), **more)


def counted(found: Imported) -> dict[str, int]:
    return dict(Counter(map(str, found.choices.values())))


def test_a_layer_config_of_autoround_gives_its_names_their_bits(tmp_path: Path) -> None:
    # asdict(QuantizationScheme) for each layer, as AutoScheme returns it
    own = {"group_size": 128, "sym": False, "data_type": "int", "act_bits": 16}
    found = read(tmp_path, {Q: {"bits": 3, **own}, DOWN: {"bits": 16, **own}})
    assert found.tool == "AutoRound"
    assert counted(found) == {"16": 18, "3/gptq": 1}
    assert str(found.choices[Q]) == "3/gptq"
    # 4 in the tower, the projector, and 12 of 14 in the language model
    assert "says nothing of 17 of 19 linears, which stay at 16 bits" in found.notes[0]
    assert "names no method for 1 of 1 linears" in found.notes[1]


def test_parts_of_names_and_expressions_of_a_layer_config_are_found_in_names(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, {"mlp.fc1": {"bits": 2}, r".*layers.1.*proj$": {"bits": 5}})
    assert counted(found) == {"2/gptq": 2, "5/gptq": 8, "16": 9}


def test_a_layer_config_that_says_two_things_of_a_linear_is_refused(
    tmp_path: Path,
) -> None:
    with pytest.raises(SpecError, match=r"says two things of .*q_proj"):
        read(tmp_path, {"self_attn": {"bits": 4}, Q: {"bits": 8}})


def test_a_checkpoint_of_autoround_has_the_bits_of_the_whole_in_its_blocks(
    tmp_path: Path,
) -> None:
    config = {
        "bits": 4,
        "data_type": "int",
        "group_size": 128,
        "sym": True,
        "autoround_version": "0.16.1",
        "block_name_to_quantize": "model.language_model.layers",
        "quant_method": "auto-round",
        "packing_format": "auto_round:auto_gptq",
        "extra_config": {Q: {"bits": 8}, r".*mlp\.down_proj.*": {"bits": 16}},
    }
    found = read(tmp_path, {"model_type": "llava", "quantization_config": config})
    # 14 of language less one at 8 and two at 16; beside them tower and projector
    assert counted(found) == {"4/gptq": 11, "8/gptq": 1, "16": 7}
    assert any("has symmetric grids" in note for note in found.notes)


def test_blocks_that_autoround_lists_one_by_one_are_blocks(tmp_path: Path) -> None:
    config = {
        "quant_method": "auto-round",
        "bits": 3,
        "block_name_to_quantize": [[f"{TEXT}.0", f"{TEXT}.1"], [f"{TOWER}.0"]],
    }
    assert counted(read(tmp_path, config)) == {"3/gptq": 16, "16": 3}


def test_dynamic_rules_of_gptqmodel_count_in_order_and_in_language_alone(
    tmp_path: Path,
) -> None:
    config = {
        "bits": 4,
        "group_size": 128,
        "desc_act": True,
        "lm_head": False,
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
        "dynamic": {
            r"-:.*layers\.0\.self_attn\.q_proj": {},
            r"+:.*q_proj": {"bits": 8, "group_size": 32},
            r".*layers\.1\.mlp.*": {"sym": False},
        },
    }
    found = read(tmp_path, config)
    # the q_proj of the tower matches too, and is no part of GPTQModel's tree
    assert counted(found) == {"16": 6, "8/gptq": 1, "4/gptq": 12}
    assert str(found.choices[f"{TEXT}.1.self_attn.q_proj"]) == "8/gptq"
    assert any("has groups of 32: its widths are taken" in x for x in found.notes)


def test_a_dynamic_block_alone_quantizes_what_it_names(tmp_path: Path) -> None:
    found = read(tmp_path, {r"+:.*down_proj": {"bits": 3}, r"-:.*up_proj": {}})
    assert counted(found) == {"3/gptq": 2, "16": 17}


def test_modules_that_are_listed_are_all_that_is_quantized_of_a_block(
    tmp_path: Path,
) -> None:
    steps = [["self_attn.q_proj", "self_attn.k_proj"], ["mlp.down_proj"]]
    config = {"quant_method": "gptq", "bits": 4}
    found = read(tmp_path, {**config, "modules_in_block_to_quantize": steps})
    assert counted(found) == {"4/gptq": 6, "16": 13}


def test_a_recipe_ignores_first_and_prefers_names_to_expressions_to_classes(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, RECIPE, "recipe.yaml")
    assert found.tool == "llm-compressor"
    # 8 attentions less one by name; 6 linears of mlp and the projector; the tower
    assert counted(found) == {"4/gptq": 7, "6/gptq": 1, "8/gptq": 7, "16": 4}
    assert str(found.choices[V]) == "6/gptq"


@pytest.mark.parametrize(
    ("modifiers", "expected"),
    [
        ("QuantizationModifier: {scheme: W4A16, targets: Linear}", "4/uniform"),
        ("AWQModifier: {scheme: W4A16_ASYM, targets: [Linear]}", "4/awq"),
        ("AWQTransformModifier: {}\n    GPTQModifier: {scheme: W8A8}", "8/awq"),
        ("GPTQModifier: {scheme: {FP8_DYNAMIC: [Linear]}}", "8/gptq"),
    ],
)
def test_schemes_of_a_recipe_are_widths_and_its_modifiers_methods(
    tmp_path: Path, modifiers: str, expected: str
) -> None:
    text = f"quant_stage:\n  quant_modifiers:\n    {modifiers}\n"
    found = read(tmp_path, text)
    assert counted(found) == {expected: 19}
    floating = any("has floating point for" in note for note in found.notes)
    assert floating == ("FP8" in text)


def test_config_groups_of_a_compressed_tensors_checkpoint_are_read(
    tmp_path: Path,
) -> None:
    weights = {"num_bits": 5, "type": "int", "symmetric": False, "group_size": 128}
    group = {"targets": [r"re:.*layers\.0\.mlp.*"], "weights": weights}
    config = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    found = read(tmp_path, {"quantization_config": {**config, "ignore": ["lm_head"]}})
    # 3 of the language model and fc1 of the tower
    assert counted(found) == {"5/gptq": 4, "16": 15}


def test_mixed_precision_of_modelopt_is_read_by_layer(tmp_path: Path) -> None:
    awq = {"quant_algo": "W4A16_AWQ", "group_size": 128, "pre_quant_scale": True}
    layers = {Q: awq, UP: {"quant_algo": "W8A16"}, DOWN: {"quant_algo": "FP8"}}
    part = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    found = read(
        tmp_path,
        {"producer": {"name": "modelopt", "version": "0.47.0"}, "quantization": part},
    )
    assert counted(found) == {"4/awq": 1, "8/gptq": 2, "16": 16}
    assert any(f"has floating point for {DOWN}" in note for note in found.notes)


def test_one_algorithm_of_modelopt_is_for_all_that_is_not_excluded(
    tmp_path: Path,
) -> None:
    part = {
        "quant_algo": "W4A16_AWQ",
        "group_size": 128,
        "exclude_modules": ["lm_head", "model.vision_tower.*", "*projector*"],
    }
    found = read(tmp_path, {"quantization": part})
    assert counted(found) == {"4/awq": 14, "16": 5}


def test_a_state_of_auto_quantize_gives_every_layer_of_a_recipe_its_bits(
    tmp_path: Path,
) -> None:
    recipes = {
        f"{Q}.quant_recipe": "INT4_BLOCKWISE_WEIGHT_ONLY_CFG(effective-bits: 4.0)",
        f"{UP}.quant_recipe": "NVFP4_DEFAULT_CFG(effective-bits: 4.5)",
        f"{DOWN}.quant_recipe": "NONE(effective-bits: 16.0)",
    }
    names = {Q: [Q, K, V], UP: [UP], DOWN: [DOWN]}
    stats = {f"{key}.quant_recipe": {"module_names": n} for key, n in names.items()}
    state = {"best": {"recipe": recipes, "score": 0.5}, "candidate_stats": stats}
    found = read(tmp_path, state)
    assert counted(found) == {"4/gptq": 4, "16": 15}
    with pytest.raises(SpecError, match="which layers share its recipe"):
        read(tmp_path, {"best": {"recipe": recipes}})


def test_the_last_entry_for_a_quantizer_of_modelopt_counts(tmp_path: Path) -> None:
    four = {"num_bits": 4, "block_sizes": {"-1": 128, "type": "static"}}
    entries = [
        {"quantizer_name": "*", "enable": False},
        {"quantizer_name": "*router*", "enable": False},
        {"quantizer_name": "*layers.0.mlp*weight_quantizer", "cfg": {"num_bits": 8}},
        {"quantizer_name": "*input_quantizer", "cfg": {"num_bits": [4, 3]}},
        {"quantizer_name": f"{Q}.weight_quantizer", "enable": True, "cfg": four},
        {"quantizer_name": "*lm_head*", "enable": False},
        {"quantizer_name": "*layers.0.mlp.down_proj*", "enable": False},
    ]
    found = read(tmp_path, {"quant_cfg": entries, "algorithm": "max"})
    # gate, up, and fc1 of the tower
    assert counted(found) == {"8/gptq": 3, "4/gptq": 1, "16": 15}


def test_a_line_of_evopress_may_name_several_layers(tmp_path: Path) -> None:
    found = read(tmp_path, f"{Q}: 3\n{K},{V}: 4\n\n", "evo-kl-configuration-3.5.txt")
    assert found.tool == "EvoPress"
    assert counted(found) == {"3/gptq": 1, "4/gptq": 2, "16": 16}


def test_a_method_that_is_not_asked_for_is_replaced_with_a_word(tmp_path: Path) -> None:
    found = read(tmp_path, f"{Q}: 3", methods=("awq", "uniform"))
    assert str(found.choices[Q]) == "3/awq"
    assert any("names gptq, which is not asked for" in note for note in found.notes)
    found = read(tmp_path, {Q: {"bits": 3}}, method="uniform")
    assert str(found.choices[Q]) == "3/uniform"
