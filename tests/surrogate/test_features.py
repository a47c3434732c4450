from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.core.errors import SpecError
from surrogate.features import bit_matrix, features, log2_matrix, method_matrix

KEYS = ("vision.all.attn", "vision.all.ff", "language.all.all")


def allocation(*choices: str) -> Allocation:
    """`4/awq` is 4 bits by AWQ, `16` is full precision."""
    parsed = []
    for text in choices:
        bits, _, method = text.partition("/")
        parsed.append(Choice(int(bits), method or None))
    return Allocation(tuple(zip(KEYS, parsed, strict=True)))


def test_bits_are_in_the_order_of_the_keys_asked_for() -> None:
    rows = [allocation("2/awq", "4/awq", "8/awq"), allocation("16", "3/awq", "2/awq")]
    matrix = bit_matrix([KEYS[2], KEYS[0]], rows)
    assert matrix.tolist() == [[8, 2], [2, 16]]
    assert matrix.dtype == np.float64


def test_log2_bits_run_from_1_at_two_bits_to_4_at_sixteen() -> None:
    assert log2_matrix(KEYS, [allocation("2/awq", "8/awq", "16")]).tolist() == [
        [1, 3, 4]
    ]


def test_no_allocations_give_a_table_without_rows() -> None:
    assert bit_matrix(KEYS, []).shape == (0, 3)
    assert features(KEYS, [], damage={}).matrix.shape == (0, 4)


def test_an_allocation_without_an_asked_group_is_refused() -> None:
    with pytest.raises(SpecError, match=r"lacks groups \['connector.all.all'\]"):
        bit_matrix(["connector.all.all"], [allocation("2/awq", "4/awq", "8/awq")])


def test_only_groups_with_more_than_one_method_get_a_method_column() -> None:
    rows = [
        allocation("4/uniform", "4/awq", "4/gptq"),
        allocation("4/awq", "4/awq", "16"),
        allocation("4/gptq", "16", "4/gptq"),
    ]
    table = features(KEYS, rows)
    assert table.names[3:] == ("method vision.all.attn",)
    assert table.matrix[:, 3].tolist() == [0, 2, 1]
    assert table.monotone == (1, 1, 1, 0)


def test_methods_of_a_study_fix_the_columns_whatever_occurs() -> None:
    row = allocation("4/awq", "4/uniform", "16")
    table = features(KEYS, [row], methods=["uniform", "awq"])
    assert table.names[3:] == tuple(f"method {key}" for key in KEYS)
    assert table.matrix[0, 3:].tolist() == [1, 0, 0]
    assert features(KEYS, [row], methods=["uniform", "awq", "gptq"]).matrix.shape == (
        1,
        6,
    )


def test_a_method_outside_the_study_is_refused() -> None:
    with pytest.raises(SpecError, match=r"methods \['gptq'\] are not among"):
        features(KEYS, [allocation("4/gptq", "16", "16")], methods=["uniform", "awq"])


def test_a_method_of_a_plug_in_comes_after_the_known_ones() -> None:
    rows = [allocation("4/spin", "16", "16"), allocation("4/uniform", "16", "16")]
    assert features(KEYS, rows).matrix[:, 3].tolist() == [3, 0]


def test_damage_is_summed_over_groups_and_stands_last() -> None:
    damage = {
        (KEYS[0], 2, "awq"): 0.5,
        (KEYS[1], 4, "awq"): 0.25,
        (KEYS[2], 4, "awq"): 0.125,
    }
    rows = [allocation("2/awq", "4/awq", "16"), allocation("16", "4/awq", "4/awq")]
    table = features(KEYS, rows, damage)
    assert table.names[-1] == "damage"
    # 16 bits do no damage
    assert table.matrix[:, -1].tolist() == [0.75, 0.375]
    assert table.monotone == (1, 1, 1, -1)


def test_a_gap_in_the_damage_table_is_named() -> None:
    with pytest.raises(SpecError, match=r"no entry for vision.all.ff at 4/awq"):
        features(KEYS, [allocation("16", "4/awq", "16")], damage={})


def test_methods_that_vary_get_a_column_of_codes() -> None:
    rows = [
        allocation("4/gptq", "4/awq", "16"),
        allocation("4/uniform", "4/awq", "2/awq"),
    ]
    names, matrix = method_matrix(KEYS, rows)
    # the second always had the same, the third no other
    assert names == (KEYS[0],)
    np.testing.assert_array_equal(matrix, [[1], [0]])


def test_importing_the_room_loads_no_heavy_library() -> None:
    code = (
        "import sys, surrogate.features, surrogate.importance, surrogate.model;"
        "sys.exit(bool({'sklearn', 'shap', 'xgboost'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
