from __future__ import annotations

import hashlib

import pytest

from allocator.core.allocation import (
    Allocation,
    Budget,
    Choice,
    Scheme,
    Size,
    bits_per_weight,
    digest,
    linear_bytes,
    nominal_bits,
    stored_size,
)
from allocator.core.errors import BudgetError, SpecError
from allocator.core.spec import Linear, ModelSpec


def linear(out_features: int, in_features: int) -> Linear:
    return Linear("x", "vision", 0, "attn", out_features, in_features)


def mixed(spec: ModelSpec) -> Allocation:
    """4 bits, but 16 in the projector and 8 in the language model's feed-forward."""
    uniform = Allocation.uniform(spec, Choice(4, "gptq"))
    return uniform.replace(
        {"connector.all.all": Choice(16), "language.all.ff": Choice(8, "awq")}
    )


@pytest.mark.parametrize("group_size", [0, 100, 256, "row", None])
def test_a_group_size_that_is_not_offered_is_refused(group_size: int) -> None:
    with pytest.raises(SpecError, match="is not one of 128, 64, 32, channel, tensor"):
        Scheme(group_size)


@pytest.mark.parametrize("bits", [0, 1, 7, 32, -4])
def test_a_width_that_is_not_offered_is_refused(bits: int) -> None:
    with pytest.raises(SpecError, match=f"width {bits} is not one of 2, 3, 4, 5, 6"):
        Choice(bits, "gptq")


@pytest.mark.parametrize(("bits", "method"), [(16, "gptq"), (4, None)])
def test_a_method_goes_with_every_width_but_sixteen(
    bits: int, method: str | None
) -> None:
    with pytest.raises(SpecError, match="16 bits take no method"):
        Choice(bits, method)


def test_a_choice_is_written_as_width_and_method() -> None:
    assert [str(Choice(4, "awq")), str(Choice(16))] == ["4/awq", "16"]


@pytest.mark.parametrize(
    ("scheme", "bits", "expected"),
    [
        # 10 x 256 in groups of 64: 40 scales of 2 bytes; codes and zero-points at the
        # width; 16 bytes for the shape
        (Scheme(64), 4, 1280 + 80 + 20 + 16),
        (Scheme(64), 3, 960 + 80 + 15 + 16),
        (Scheme(64), 8, 2560 + 80 + 40 + 16),
        (Scheme(64, symmetric=True), 4, 1280 + 80 + 16),
        # 20 scales
        (Scheme(128), 2, 640 + 40 + 5 + 16),
        # a scale for each of 10 rows; 10 zero-points of 4 bits are 5 bytes
        (Scheme("channel"), 4, 1280 + 20 + 5 + 16),
        (Scheme("channel", symmetric=True), 4, 1280 + 20 + 16),
        # one scale; its zero-point is no integer and takes 2 bytes at any width
        (Scheme("tensor"), 4, 1280 + 2 + 2 + 16),
        (Scheme("tensor", symmetric=True), 4, 1280 + 2 + 16),
        # left as it is: 2 bytes a weight and nothing beside them
        (Scheme(64), 16, 5120),
        (Scheme("tensor"), 16, 5120),
    ],
)
def test_bytes_of_a_linear_are_codes_scales_zero_points_and_bookkeeping(
    scheme: Scheme, bits: int, expected: int
) -> None:
    assert linear_bytes(linear(10, 256), scheme, bits) == expected


@pytest.mark.parametrize(
    ("asked", "rows", "own", "columns"),
    [
        (128, 4096, 128, 128),
        # SmolVLM: 576 = 9 x 64, 960 = 15 x 64
        (128, 576, 64, 64),
        (128, 960, 64, 64),
        # the vision towers of Qwen2.5-VL and SigLIP: 4 x 855 and 16 x 269
        (128, 3420, "channel", 3420),
        (128, 4304, "channel", 4304),
        # never above what was asked
        (64, 4096, 64, 64),
        (32, 576, 32, 32),
        (32, 3420, "channel", 3420),
        # 96 = 3 x 32
        (64, 96, 32, 32),
        # not longer than a group: one scale a row
        (128, 96, 96, 96),
        (128, 64, 64, 64),
        (128, 5, 5, 5),
        ("channel", 4096, "channel", 4096),
        ("tensor", 3420, "tensor", 3420),
    ],
)
def test_a_linear_takes_the_largest_known_group_size_that_divides_its_rows(
    asked: int | str, rows: int, own: int | str, columns: int
) -> None:
    assert Scheme(asked).group_size_of(rows) == own
    assert Scheme(asked).columns(rows) == columns


def test_the_size_counts_the_scales_that_a_linear_really_has() -> None:
    # 10 x 576 in groups of 64: 90 scales of 2 bytes, 90 zero-points of 4 bits
    assert linear_bytes(linear(10, 576), Scheme(128), 4) == 2880 + 180 + 45 + 16
    # 10 x 3420: a scale for each of 10 rows
    assert linear_bytes(linear(10, 3420), Scheme(128), 4) == 17_100 + 20 + 5 + 16


def test_scales_of_either_type_take_as_much_room() -> None:
    coarse = Scheme(64, scales="bfloat16")
    assert linear_bytes(linear(10, 256), coarse, 4) == 1280 + 80 + 20 + 16


def test_scales_of_a_type_that_no_checkpoint_has_are_refused() -> None:
    with pytest.raises(SpecError, match="float16, bfloat16"):
        Scheme(scales="float32")


def test_one_scale_a_matrix_goes_with_rounding_alone() -> None:
    Scheme("tensor").check(["uniform"])
    Scheme("channel").check(["uniform", "gptq", "awq"])
    with pytest.raises(
        SpecError,
        match=r"'tensor' goes with method 'uniform' alone, not with gptq, awq",
    ):
        Scheme("tensor").check(["uniform", "gptq", "awq"])


def test_codes_and_zero_points_are_each_padded_to_a_byte() -> None:
    # 5 x 5 at 3 bits: 75 bits of codes in 10 bytes, 15 bits of zero-points in 2
    assert linear_bytes(linear(5, 5), Scheme("channel"), 3) == 10 + 10 + 2 + 16


@pytest.mark.parametrize(
    ("bits", "quantized_bytes"),
    [
        # 98,304 weights; 1,248 rows of one grid each, 2 bytes and a zero-point; 11
        # linears with 16 bytes of bookkeeping
        (2, 24_576 + 2_496 + 312 + 176),
        (4, 49_152 + 2_496 + 624 + 176),
        (8, 98_304 + 2_496 + 1_248 + 176),
        (16, 196_608),
    ],
)
def test_a_uniform_allocation_stores_the_bytes_added_up_by_hand(
    toy: ModelSpec, bits: int, quantized_bytes: int
) -> None:
    choice = Choice(bits, None if bits == 16 else "uniform")
    size = stored_size(toy, Scheme(), Allocation.uniform(toy, choice))
    # the other 4,096 parameters stay at 2 bytes
    assert size == Size(quantized_bytes + 8_192, 102_400, quantized_bytes, 98_304)


def test_each_group_counts_at_its_own_width(toy: ModelSpec) -> None:
    # From 52,448 bytes at 4 bits: the 96 x 64 projector grows from 3,328 to 12,288;
    # two matrices of 192 x 96 grow by half their weights in codes, 9,216, and by
    # 96 in zero-points.
    size = stored_size(toy, Scheme(), mixed(toy))
    assert size.quantized_bytes == 52_448 + 8_960 + 2 * 9_312


def test_bpw_of_the_model_counts_what_stays_at_sixteen_bits(toy: ModelSpec) -> None:
    allocation = Allocation.uniform(toy, Choice(4, "gptq"))
    # (52,448 + 8,192) bytes over 102,400 parameters
    assert bits_per_weight(toy, Scheme(), allocation) == pytest.approx(4.7375)


def test_bpw_of_the_quantized_scope_counts_the_groups_alone(toy: ModelSpec) -> None:
    allocation = Allocation.uniform(toy, Choice(4, "gptq"))
    # 52,448 bytes over 98,304 weights
    expected = 419_584 / 98_304
    found = bits_per_weight(toy, Scheme(), allocation, "quantized")
    assert found == pytest.approx(expected)


def test_everything_at_sixteen_bits_is_sixteen_in_both_scopes(toy: ModelSpec) -> None:
    size = stored_size(toy, Scheme(), Allocation.uniform(toy, Choice(16)))
    assert size.bpw("model") == size.bpw("quantized") == 16


def test_nominal_bits_weigh_groups_by_size_and_count_codes_alone(
    toy: ModelSpec,
) -> None:
    # (36,864 x 4 + 6,144 x 16 + 18,432 x 4 + 36,864 x 8) / 98,304
    assert nominal_bits(toy, mixed(toy)) == 6.25


def test_an_allocation_names_every_group_and_no_other(toy: ModelSpec) -> None:
    given = {key: Choice(4, "gptq") for key in toy.keys}
    del given["vision.end.ff"]
    given["vision.last.ff"] = Choice(4, "gptq")
    with pytest.raises(
        SpecError,
        match=r"unknown: \['vision.last.ff'\], missing: \['vision.end.ff'\]",
    ):
        Allocation.of(toy.keys, given)


def test_allocations_of_the_same_choices_are_equal_whatever_the_order(
    toy: ModelSpec,
) -> None:
    given = dict(mixed(toy))
    backwards = dict(reversed(given.items()))
    assert list(backwards) != list(given)
    first, second = Allocation.of(toy.keys, given), Allocation.of(toy.keys, backwards)
    assert first == second
    assert first.digest == second.digest


def test_bits_and_method_of_any_group_change_the_digest(toy: ModelSpec) -> None:
    base = Allocation.uniform(toy, Choice(4, "gptq"))
    others = [
        base.replace({key: choice})
        for key in toy.keys
        for choice in (Choice(3, "gptq"), Choice(4, "awq"), Choice(16))
    ]
    # 9 groups x 3 changes, and the allocation they start from
    assert len({base.digest, *(other.digest for other in others)}) == 28


def test_a_digest_is_the_hash_of_canonical_json() -> None:
    expected = hashlib.sha256(b'{"a":[2,null],"b":1}').hexdigest()[:16]
    assert digest({"b": 1, "a": (2, None)}) == expected


def test_an_allocation_survives_json(toy: ModelSpec) -> None:
    data = mixed(toy).to_json()
    assert data["connector.all.all"] == {"bits": 16, "method": None}
    assert data["language.all.ff"] == {"bits": 8, "method": "awq"}
    assert Allocation.from_json(toy, data) == mixed(toy)


def test_replacing_leaves_the_other_groups_and_the_original_alone(
    toy: ModelSpec,
) -> None:
    base = Allocation.uniform(toy, Choice(4, "gptq"))
    changed = base.replace({"vision.front.ff": Choice(2, "awq")})
    assert changed["vision.front.ff"] == Choice(2, "awq")
    assert changed["vision.front.attn"] == Choice(4, "gptq")
    assert base["vision.front.ff"] == Choice(4, "gptq")


def test_a_part_has_the_choices_of_its_components_alone(toy: ModelSpec) -> None:
    part = mixed(toy).part(["connector", "language"])
    assert [key for key, _ in part] == [
        *("connector.all.all", "language.all.attn", "language.all.ff")
    ]
    assert part["language.all.ff"] == Choice(8, "awq")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4.0", Budget(4.0)),
        (" 4 ", Budget(4.0)),
        ("1e1", Budget(10.0)),
        ("500b", Budget(500.0, "bytes")),
        ("2kB", Budget(2_000.0, "bytes")),
        ("1.5 MB", Budget(1_500_000.0, "bytes")),
        ("1KiB", Budget(1_024.0, "bytes")),
        # 3.5 x 1024 x 1024 x 1024
        ("3.5GiB", Budget(3_758_096_384.0, "bytes")),
        ("3.5gib", Budget(3_758_096_384.0, "bytes")),
    ],
)
def test_a_budget_is_read_as_bits_per_weight_or_as_a_size(
    text: str, expected: Budget
) -> None:
    assert Budget.parse(text) == expected


@pytest.mark.parametrize("text", ["0", "-1", "-2GiB", "nan", "inf", "1e400", "nan GiB"])
def test_a_budget_that_is_no_positive_number_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match="not a positive number"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["", "four", "GiB", "4 bits", "4 TiB", "4,0", "4ib"])
def test_text_that_is_no_budget_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BudgetError, match=r"neither a number .* nor a size, such as"):
        Budget.parse(text)


def test_an_unknown_scope_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BudgetError, match="'all' is not one of model, quantized"):
        Budget.parse("4.0", "all")  # type: ignore[arg-type]


def test_a_budget_converts_between_bits_and_bytes_of_its_scope(toy: ModelSpec) -> None:
    # 102,400 parameters, 98,304 of them in groups
    assert Budget(4.0).bytes(toy) == 51_200
    assert Budget(4.0, scope="quantized").bytes(toy) == 49_152
    assert Budget(12_800, "bytes").bpw(toy) == 1.0
    assert Budget(12_288, "bytes", "quantized").bpw(toy) == 1.0
    assert Budget(12_800, "bytes").bytes(toy) == 12_800
    assert Budget(2.5).bpw(toy) == 2.5


def test_a_budget_is_kept_up_to_its_last_byte(toy: ModelSpec) -> None:
    size = stored_size(toy, Scheme(), Allocation.uniform(toy, Choice(4, "gptq")))
    # 60,640 bytes, as added up above
    assert Budget(60_640, "bytes").fits(toy, size)
    assert not Budget(60_639, "bytes").fits(toy, size)
    assert Budget(4.7375).fits(toy, size)
    assert not Budget(4.7374).fits(toy, size)
    assert Budget(52_448, "bytes", "quantized").fits(toy, size)
    assert not Budget(52_447, "bytes", "quantized").fits(toy, size)
