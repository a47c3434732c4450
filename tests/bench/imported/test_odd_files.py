"""Files that no tool wrote: a sentence for each."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allocator.bench.imported import _file
from allocator.bench.imports import imported
from allocator.core.allocation import Scheme
from allocator.core.errors import SpecError
from tests.bench.imported.llava import TEXT, spec
from tests.bench.imported.test_readers import RECIPE

if TYPE_CHECKING:
    from pathlib import Path

Q = f"{TEXT}.0.self_attn.q_proj"
SPEC = spec()


def refusal(file: Path) -> str:
    with pytest.raises(SpecError) as refused:
        imported(file, SPEC, Scheme())
    return str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("{", "cannot be read as JSON"),
        ("[1, 2]", "holds no names"),
        ("a: [1", "cannot be read as YAML: .* line 1"),
        ("2: [x]", "holds no names"),
        ("x: !!python/object/apply:os.getcwd []", "cannot be read as YAML"),
        ("day: [2026-13-45]", "cannot be read as YAML"),
        ("words alone", "holds no names"),
        ("{}", "holds no allocation that is known here"),
        ('{"model_type": "llava"}', "neither a plan of `allocate` nor AutoRound's"),
        ("[" * 100_000, "is nested too deeply"),
        (f'{{"{Q}": 4, "{Q}": 8}}', "names '.*q_proj' twice"),
        (f"{Q}: 4\n{Q}: 8", "names '.*q_proj' twice"),
        ("a_stage: {}\na_stage: {}", "names 'a_stage' twice"),
        (f"{Q}: 4\n{Q}.weight: 8", "says two things of"),
        (f"{Q}: 1.58", r"gives .*q_proj 1\.58 bits, and widths are 2, 3, 4, 5, 6, 8"),
        (f"{Q}: 7", "gives .* 7 bits"),
        (f"{Q}: 0", "gives .* 0 bits"),
        (f'{{"{Q}": Infinity}}', "gives .* inf bits"),
        (f'{{"{Q}": NaN}}', "gives .* nan bits"),
        (f"{Q}: 16", "quantizes no linear of this model"),
        ("model.layers.9.mlp.up_proj: 4", "is no linear of this model"),
        (f'{{"{Q}": {{"bits": "4"}}}}', "bits of .* is '4'"),
        (f'{{"{Q}": {{"bits": true}}}}', "bits of .* is True"),
        (f'{{"{Q}": {{"bits": null, "sym": true}}}}', "has no bits"),
        ('{"quantization_config": 3}', "quantization_config is 3"),
        ('{"quant_method": "gptq"}', "bits is None"),
        ('{"+:(": {"bits": 4}}', r"has '\(', which is no regular expression"),
        ('{"-:.*q_proj": {}}', "quantizes no linear"),
        ("a_stage: [3]", r"a_stage is \[3\]"),
        ("a_stage: {b_modifiers: {SmoothQuantModifier: {}}}", "none, and one is read"),
        ('{"quantization": {"quant_algo": "MAGIC"}}', "whose bits are not known"),
        ('{"quant_cfg": [{"enable": true}]}', "quantizer_name"),
    ],
)
def test_a_file_that_means_nothing_is_refused_in_a_sentence(
    tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    sentence = refusal(file)
    assert sentence.startswith(f"{file} ")
    assert "\n" not in sentence
    with pytest.raises(SpecError, match=said):
        imported(file, SPEC, Scheme())


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone") == f"there is no file {tmp_path / 'gone'}"
    assert "cannot be read: Is a directory" in refusal(tmp_path)
    (tmp_path / "weights").write_bytes(b"\xff\xfe\x00")
    assert refusal(tmp_path / "weights").endswith("is no text")


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(f"{Q}: 4\n")
    # a hole: the disk holds nothing of it
    os.truncate(file, 10 * 2**30)
    assert "it has more than 33,554,432 bytes" in refusal(file)
    file.write_text(RECIPE + "# " + "x" * _file.LARGEST_YAML)
    assert "more than any recipe" in refusal(file)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(f"{Q}: 4\n", encoding="utf-8-sig")
    assert str(imported(file, SPEC, Scheme()).choices[Q]) == "4/gptq"


KEYS = st.sampled_from(
    [
        *("bits", "quant_method", "dynamic", "extra_config", "block_name_to_quantize"),
        *("quantization", "quant_algo", "quantized_layers", "exclude_modules", "sym"),
        *("best", "recipe", "candidate_stats", "quant_cfg", "quantizer_name", "cfg"),
        *("config_groups", "targets", "weights", "num_bits", "ignore", "scheme"),
        *("a_stage", "a_modifiers", "GPTQModifier", "quantization_config", "enable"),
        *(Q, "+:.*", "-:.*", "group_size", "block_sizes", "module_names", "data_type"),
        *("lm_head", "modules_in_block_to_quantize", "strategy", "type"),
    ]
)
LEAVES = st.sampled_from(
    [None, True, 4, -1, 1.5, "gptq", "auto-round", "MIXED_PRECISION", "W4A16", "re:("]
)
VALUES = st.recursive(
    LEAVES,
    lambda own: st.lists(own, max_size=3) | st.dictionaries(KEYS, own, max_size=4),
    max_leaves=12,
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_any_object_is_read_or_refused_in_a_sentence(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    file = tmp_path / "file"
    file.write_text(json.dumps(content))
    with contextlib.suppress(SpecError):
        assert len(imported(file, SPEC, Scheme()).choices) == len(SPEC.linears)


def test_yaml_that_refers_to_itself_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    rows = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    for last, own in itertools.pairwise("abcdefghi"):
        rows.append(f"{own}: &{own} [{', '.join([f'*{last}'] * 9)}]")
    for text in ("\n".join(rows), "a: &a [*a]"):
        file.write_text(text)
        assert "spells out more than 1,000,000 values" in refusal(file)
