"""Tables are read as they are, and what cannot be read is refused in a sentence."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from allocator.core.allocation import Allocation, Choice
from allocator.core.errors import BudgetError, DataError
from allocator.space.table import UNIT, TableSpace, read_table
from allocator.strategies._moves import fill, mutate, scatter

PUBLISHED = Path(__file__).parents[2] / "studies" / "published"
CAPTIONS = PUBLISHED / "blip2_coco_awq.csv"
RECALLS = PUBLISHED / "blip2_flickr_awq.csv"

SMALL = """a_bits,b_bits,note_bits,bpw,score
2,2,x,2.0,1
4,2,x,3.5,2
2,4,x,2.5,3
4,4,x,4.0,4
16,16,x,16.0,5
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def small(folder: Path, budget: float, text: str = SMALL) -> TableSpace:
    return TableSpace(read_table(write(folder, text), "score", "bpw"), budget)


def of(*bits: int, keys: tuple[str, ...] = ("a_bits", "b_bits")) -> Allocation:
    choices = [Choice(b, None if b == 16 else "measured") for b in bits]
    return Allocation(tuple(zip(keys, choices, strict=True)))


def bits_of(allocation: Allocation) -> tuple[int, ...]:
    return tuple(choice.bits for _, choice in allocation)


def test_bit_columns_become_groups_and_rows_keep_their_order(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, SMALL), "score", "bpw")
    assert table.keys == ("a_bits", "b_bits")
    assert [bits_of(row.allocation) for row in table.rows] == [
        (2, 2),
        (4, 2),
        (2, 4),
        (4, 4),
        (16, 16),
    ]
    assert [row.bpw for row in table.rows] == [2.0, 3.5, 2.5, 4.0, 16.0]
    assert table.repeats == 0


@pytest.mark.parametrize("cell", ["7", "1.58", "4.25", "0.5", "32"])
def test_any_positive_width_is_a_level(tmp_path: Path, cell: str) -> None:
    space = small(tmp_path, 16.0, SMALL.replace("4,4,x", f"{cell},{cell},x"))
    assert bits_of(space.rows[3]) == (float(cell), float(cell))
    assert float(cell) in space.widths
    alike = [bits_of(a)[0] for a in space.alike_rows]
    assert alike == sorted([2, 16, float(cell)])
    # a width written otherwise is the same width
    other = small(tmp_path, 16.0, SMALL.replace("4,4,x", f"{cell},{float(cell):.3f},x"))
    assert other.rows[3] == space.rows[3]


def test_widths_written_as_decimals_are_widths(tmp_path: Path) -> None:
    text = SMALL.replace("4,4,x", "4.0,4.0,x")
    table = read_table(write(tmp_path, text), "score", "bpw")
    assert table.keys == ("a_bits", "b_bits")


def test_the_columns_that_are_named_are_no_groups(tmp_path: Path) -> None:
    text = "a_bits,mean_bits,good_bits\n2,2,3\n4,4,8\n"
    table = read_table(write(tmp_path, text), "good_bits", "mean_bits")
    assert table.keys == ("a_bits",)


def test_of_rows_that_repeat_the_smallest_stays_and_the_first_of_equals(
    tmp_path: Path,
) -> None:
    more = "4,4,x,3.9,6\n2,2,x,2.0,7\n2,4,x,2.6,8\n"
    table = read_table(write(tmp_path, SMALL + more), "score", "bpw")
    kept = {bits_of(row.allocation): row for row in table.rows}
    assert table.repeats == 3
    assert (kept[4, 4].bpw, kept[4, 4].score) == (3.9, "6")
    assert kept[2, 2].score == "1"
    assert kept[2, 4].score == "3"


def test_scores_are_not_looked_at_when_a_table_is_read(tmp_path: Path) -> None:
    text = SMALL.replace("4.0,4", "4.0,none").replace("2.5,3", "2.5,nan")
    table = read_table(write(tmp_path, text), "score", "bpw")
    assert [row.score for row in table.rows] == ["1", "2", "nan", "none", "5"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a_bits,bpw,score\n", "has no rows"),
        ("a_bits,size,score\n2,2,1\n", "no column 'bpw'; it has a_bits, size, score"),
        ("a_bits,bpw\n2,2\n", "no column 'score'"),
        ("a,bpw,score\n9,2,1\n", "has no bit columns"),
        ("a,bpw,score\n7,2,1\n", "holds widths in a, not named *_bits"),
        ("a,b_bits,bpw,score\n2,2,2,1\n", "holds widths in a, not named *_bits"),
        ("a_bits,bpw,score\n0,2,1\n", "line 2: a_bits '0' is not a width"),
        ("a_bits,a_bits,bpw,score\n2,2,2,1\n", "several columns named 'a_bits'"),
        ("a_bits,bpw,score\n2,2\n", "line 2 has 2 cells, the header 3"),
        ("a_bits,bpw,score\n2,nan,1\n", "line 2: bpw 'nan' is not a positive number"),
        ("a_bits,bpw,score\n2,2,1\n3,inf,1\n", "line 3: bpw 'inf' is not a positive"),
        ("a_bits,bpw,score\n2,-2,1\n", "bpw '-2' is not a positive number"),
        ("a_bits,bpw,score\n2,1e308,1\n", "bpw '1e308' is not a positive number"),
        ("a_bits,bpw,score\n2,,1\n", "bpw '' is not a positive number"),
        ('a_bits,bpw,score\n2,"2"x,1\n', "is not a CSV file"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_table(write(tmp_path, text), "score", "bpw")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no table"):
        read_table(tmp_path / "none.csv", "score", "bpw")
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    with pytest.raises(DataError, match="not a CSV file"):
        read_table(path, "score", "bpw")


def test_rows_that_fit_are_those_of_their_own_bpw(tmp_path: Path) -> None:
    # the size of (4, 2) is nothing like the sum of its groups
    space = small(tmp_path, 3.0, SMALL.replace("3.5,2", "2.1,2"))
    assert [bits_of(a) for a in space.rows] == [(2, 2), (4, 2), (2, 4)]
    assert space.fits(of(4, 2))
    assert not space.fits(of(4, 4))
    assert not space.fits(of(2, 3))
    assert space.bpw(of(4, 2)) == pytest.approx(2.1)
    assert space.bytes(of(4, 2)) == pytest.approx(2.1 * UNIT)


@pytest.mark.parametrize("budget", [3.5, 4, 4.5, 6])
def test_published_rows_fit_as_the_file_says(budget: float) -> None:
    space = TableSpace(read_table(CAPTIONS, "CIDEr", "bpw"), budget)
    with CAPTIONS.open(newline="") as file:
        expected = {
            tuple(int(row[f"{key}_bits"]) for key in ("vit", "qformer", "llm"))
            for row in csv.DictReader(file)
            if float(row["bpw"]) <= budget
        }
    assert {bits_of(a) for a in space.rows} == expected
    assert all(space.fits(a) for a in space.rows)


def test_the_published_sizes_follow_from_the_weights() -> None:
    # weights of ViT, Q-Former and language model, and what stays at 16 bits
    weights, rest, parameters = (
        (984_023_040, 104_988_672, 2_516_582_400),
        139_167_744,
        3_744_761_856,
    )
    table = read_table(CAPTIONS, "CIDEr", "bpw")
    assert len(table.rows) == 343
    for row in table.rows:
        codes = sum(
            w * b for w, b in zip(weights, bits_of(row.allocation), strict=True)
        )
        assert row.bpw == pytest.approx((codes + 16 * rest) / parameters, abs=1e-8)
    assert len(read_table(RECALLS, "img_r1", "bpw").rows) == 49


def test_costs_of_groups_are_estimated_from_the_sizes() -> None:
    space = TableSpace(read_table(CAPTIONS, "CIDEr", "bpw"), 4.5)
    costs = space.group_bytes
    # one bit more in a group costs its share of the weights
    parameters = 3_744_761_856
    for key, weights in (("vit_bits", 984_023_040), ("llm_bits", 2_516_582_400)):
        step = (costs[key][4] - costs[key][3]) / UNIT
        assert step == pytest.approx(weights / parameters, rel=1e-6)
    total = sum(costs[key][3] for key in space.keys)
    assert total == pytest.approx(space.bytes(of3(3, 3, 3)), rel=1e-6)


def of3(*bits: int) -> Allocation:
    choices = [Choice(b, None if b == 16 else "measured") for b in bits]
    keys = ("vit_bits", "qformer_bits", "llm_bits")
    return Allocation(tuple(zip(keys, choices, strict=True)))


def test_moves_end_in_whatever_the_table_and_the_budget_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # the only row: its bits are the narrowest and the widest there are
    spaces = [
        small(tmp_path, 3.0),
        small(tmp_path, 2.0),
        small(tmp_path, 5.0, "a_bits,b_bits,bpw,score\n2,8,5.0,1\n"),
        # a size that falls with the bits
        small(tmp_path, 5.0, "a_bits,b_bits,bpw,score\n2,8,5.0,1\n4,8,4.0,1\n"),
    ]
    for space in spaces:
        for _ in range(20):
            found = space.nearest(mutate(space, scatter(space, rng), rng))
            assert found is not None
            assert space.fits(found)
            fill(space, found, rng)


def test_the_nearest_row_is_the_one_brute_force_finds() -> None:
    space = TableSpace(read_table(CAPTIONS, "CIDEr", "bpw"), 4.0)
    rng = np.random.default_rng(0)
    taken = {a.digest for a in space.rows if rng.random() < 0.4}
    for bits in itertools.product((2, 3, 6, 16), repeat=3):

        def distance(row: Allocation, bits: tuple[int, ...] = bits) -> float:
            pairs = zip(bits_of(row), bits, strict=True)
            return sum(math.log2(own / wanted) ** 2 for own, wanted in pairs)

        free = [row for row in space.rows if row.digest not in taken]
        least = min(distance(row) for row in free)
        first = next(row for row in free if distance(row) <= least + 1e-12)
        assert space.nearest(of3(*bits), taken) == first


def test_nothing_is_nearest_when_all_rows_are_taken(tmp_path: Path) -> None:
    space = small(tmp_path, 4.0)
    taken = {a.digest for a in space.rows}
    assert space.nearest(of(4, 4), taken) is None
    assert space.nearest(of(4, 4), taken - {of(2, 2).digest}) == of(2, 2)
    assert space.nearest(of(16, 16)) == of(4, 4)


def test_uniform_rows_are_those_of_the_table(tmp_path: Path) -> None:
    space = small(tmp_path, 3.0)
    assert [bits_of(a) for a in space.uniform] == [(2, 2), (4, 4)]
    assert [bits_of(a) for a in space.alike_rows] == [(2, 2), (4, 4), (16, 16)]


def test_a_budget_that_no_row_keeps_names_the_smallest_there_is(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"1\.9000 bpw .* 2\.0000 bpw"):
        small(tmp_path, 1.9)
    # what is printed can be asked for
    text = SMALL.replace("2.0,1", "2.00004,1")
    with pytest.raises(BudgetError, match=r"2\.0001 bpw"):
        small(tmp_path, 2.0, text)
    assert len(small(tmp_path, 2.0001, text).rows) == 1


def test_a_budget_equal_to_a_size_allows_it(tmp_path: Path) -> None:
    assert len(small(tmp_path, 3.5).rows) == 3


MANY = """vit_a,vit_b,llm_a,note,n,bpw,score
2,3,4,x,2,2.0,1
4,4,4,y,2,3.0,2
"""


@pytest.mark.parametrize(
    ("bits", "keys"),
    [
        ("vit_*,llm_*", ("vit_a", "vit_b", "llm_a")),
        ("llm_a, vit_b", ("vit_b", "llm_a")),
        ("*_a,vit_a", ("vit_a", "llm_a")),
    ],
)
def test_columns_of_groups_can_be_named_by_patterns(
    tmp_path: Path, bits: str, keys: tuple[str, ...]
) -> None:
    table = read_table(write(tmp_path, MANY), "score", "bpw", bits)
    assert table.keys == keys
    first = dict(zip(("vit_a", "vit_b", "llm_a"), (2, 3, 4), strict=True))
    assert bits_of(table.rows[0].allocation) == tuple(first[key] for key in keys)


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (None, "holds widths in vit_a, vit_b, llm_a, n, not named *_bits"),
        ("vit_*,lm_*", "--bits 'lm_*' matches no column"),
        ("vit_a,note", "line 2: note 'x' is not a width, a number of bits"),
        ("bpw", "--bits 'bpw' matches no column"),
        (" , ", "names no column"),
    ],
)
def test_columns_that_are_no_groups_are_refused(
    tmp_path: Path, bits: str | None, said: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_table(write(tmp_path, MANY), "score", "bpw", bits)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_named_columns_are_never_groups_whatever_the_pattern(tmp_path: Path) -> None:
    text = "a_bits,mean_bits,good_bits\n2,2,3\n4,4,8\n"
    table = read_table(write(tmp_path, text), "good_bits", "mean_bits", "*_bits")
    assert table.keys == ("a_bits",)
