"""Replays read no more than they may, and find what brute force finds."""

from __future__ import annotations

import ast
import csv
import inspect
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from allocator.cli.search import main
from allocator.core.errors import DataError, SpecError
from allocator.core.plugins import available, load
from allocator.core.records import Recommendation
from allocator.space.table import TableSpace, read_table
from allocator.tables.oracle import Oracle, read_rows
from allocator.tables.replay import ReplayRequest, run

if TYPE_CHECKING:
    from click.testing import Result

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "studies" / "published"
CAPTIONS = PUBLISHED / "blip2_coco_awq.csv"
RECALLS = PUBLISHED / "blip2_flickr_awq.csv"
EACH = pytest.mark.parametrize("name", available("allocator.strategies"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def best(path: Path, score: str, budget: float) -> float:
    """The best score among the rows that fit, by looking at all."""
    return max(float(r[score]) for r in rows_of(path) if float(r["bpw"]) <= budget)


def space_of(path: Path, score: str, budget: float) -> TableSpace:
    return TableSpace(read_table(path, score, "bpw"), budget)


def found_by(
    path: Path, score: str, budget: float, seed: int, reads: int, name: str
) -> Oracle:
    space = space_of(path, score, budget)
    oracle = Oracle(space, reads)
    read_rows(load("allocator.strategies", name)(space, seed), oracle)
    return oracle


def blinded(tmp_path: Path, budget: float) -> Path:
    """The captioning table without the scores of rows over the budget."""
    rows = rows_of(CAPTIONS)
    for row in rows:
        if float(row["bpw"]) > budget:
            row["CIDEr"] = "unknown"
    path = tmp_path / "blinded.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@EACH
def test_every_strategy_reads_fitting_rows_once_and_no_more_than_allowed(
    name: str,
) -> None:
    oracle = found_by(CAPTIONS, "CIDEr", 4.0, 0, 12, name)
    assert oracle.reads == 12
    assert len({a.digest for a in oracle.order}) == 12
    assert all(oracle.space.row(a).bpw <= 4.0 for a in oracle.order)
    # the widest uniform row that fits comes first
    assert {choice.bits for _, choice in oracle.order[0]} == {3}


@EACH
def test_every_strategy_stops_when_all_rows_are_read(name: str) -> None:
    oracle = found_by(RECALLS, "img_r1", 3.0, 0, 40, name)
    assert oracle.reads == 5
    assert max(oracle.scores.values()) == best(RECALLS, "img_r1", 3.0)


@pytest.mark.parametrize("budget", [4, 4.5, 5, 6, 8])
def test_the_default_finds_the_best_captions_within_half_a_point(budget: float) -> None:
    regrets = [
        best(CAPTIONS, "CIDEr", budget) - max(oracle.scores.values())
        for seed in range(3)
        for oracle in [found_by(CAPTIONS, "CIDEr", budget, seed, 20, "surrogate")]
    ]
    assert max(regrets) <= 0.005


def test_the_default_beats_random_reading_after_ten() -> None:
    def regret(name: str) -> float:
        left = 0.0
        for budget in (4, 6, 8):
            for seed in range(5):
                oracle = found_by(CAPTIONS, "CIDEr", budget, seed, 10, name)
                left += best(CAPTIONS, "CIDEr", budget) - max(oracle.scores.values())
        return left

    assert regret("surrogate") < regret("random")


def test_what_is_over_the_budget_can_change_nothing(tmp_path: Path) -> None:
    path = blinded(tmp_path, 4.5)
    whole = found_by(CAPTIONS, "CIDEr", 4.5, 1, 12, "surrogate")
    blind = found_by(path, "CIDEr", 4.5, 1, 12, "surrogate")
    assert blind.order == whole.order


def test_what_was_not_read_can_change_nothing(tmp_path: Path) -> None:
    whole = found_by(CAPTIONS, "CIDEr", 4.5, 1, 12, "surrogate")
    read = {tuple(c.bits for _, c in a) for a in whole.order}
    rows = rows_of(CAPTIONS)
    for row in rows:
        bits = tuple(int(row[f"{key}_bits"]) for key in ("vit", "qformer", "llm"))
        if bits not in read:
            row["CIDEr"] = "nan"
    path = tmp_path / "read.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert found_by(path, "CIDEr", 4.5, 1, 12, "surrogate").order == whole.order


def test_seeds_repeat_themselves_and_differ_from_each_other() -> None:
    orders = [
        tuple(a.digest for a in found_by(CAPTIONS, "CIDEr", 5, s, 8, "surrogate").order)
        for s in (0, 0, 1, 2)
    ]
    assert orders[0] == orders[1]
    assert len(set(orders)) == 3


def test_the_oracle_refuses_a_second_look_a_large_row_and_one_read_too_many() -> None:
    space = space_of(CAPTIONS, "CIDEr", 4.0)
    oracle = Oracle(space, 2)
    first, second, third = space.rows[:3]
    oracle.read(first)
    with pytest.raises(SpecError, match="no unread row"):
        oracle.read(first)
    with pytest.raises(SpecError, match="no unread row"):
        oracle.read(space.full)
    oracle.read(second)
    with pytest.raises(SpecError, match="2 reads are spent"):
        oracle.read(third)
    assert oracle.reads == 2


def keys_of_a_search() -> set[str]:
    """Keys at any depth of the object that a search prints, read from its source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(Recommendation)))
    tables = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    keys = {ast.literal_eval(key) for table in tables for key in table.keys if key}
    # what the scheme holds, where there is one
    return keys - {"group_size", "symmetric"}


def keys_of(value: Any) -> set[str]:
    """Keys at any depth."""
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    if not isinstance(value, dict):
        return set()
    return set(value) | set().union(*map(keys_of, value.values()))


def small(tmp_path: Path, scores: str = "123") -> Path:
    path = tmp_path / "small.csv"
    lines = [
        f"{bits},{bits},{bits},{score}"
        for bits, score in zip((2, 3, 4), scores, strict=True)
    ]
    path.write_text("\n".join(["a_bits,b_bits,bpw,score", *lines]) + "\n")
    return path


def test_a_score_that_is_read_has_to_be_a_number(tmp_path: Path) -> None:
    path = small(tmp_path, "1x3")
    assert run(ReplayRequest(path, "score", "4", trials=1)).best[1] == 3.0
    with pytest.raises(DataError, match="line 3: the score 'x' is not a finite number"):
        run(ReplayRequest(path, "score", "4", trials=3))


def test_the_object_has_the_keys_of_a_search_and_is_right() -> None:
    found = replayed(CAPTIONS, "CIDEr", "4.5", "--trials", "15")
    assert keys_of_a_search() >= {"trials", "front", "importance", "vs_best_uniform"}
    assert keys_of_a_search() <= keys_of(found)
    nulls = ("study", "storage", "model", "task", "evaluated_samples")
    assert all(found[key] is None for key in nulls)
    assert found["trials"] == {
        "complete": 15,
        "pruned": 0,
        "failed": 0,
        "infeasible": 0,
    }
    own = {
        tuple(int(row[f"{key}_bits"]) for key in ("vit", "qformer", "llm")): row
        for row in rows_of(CAPTIONS)
    }
    told = found["recommended"]
    row = own[tuple(choice["bits"] for choice in told["allocation"].values())]
    assert list(told["allocation"]) == ["vit_bits", "qformer_bits", "llm_bits"]
    assert {choice["method"] for choice in told["allocation"].values()} == {None}
    assert told["score"] == float(row["CIDEr"])
    assert told["bpw"] == pytest.approx(float(row["bpw"]))
    assert told["ci95"] is None
    assert told["bpw_quantized"] is None
    # 4 bits everywhere is the widest that fits, and the only one surely read
    uniform = {each["bits"]: each for each in found["uniform"]}
    assert list(uniform) == [2, 3, 4, 5, 6, 8, 16]
    assert [each["fits"] for each in found["uniform"]] == [True] * 3 + [False] * 4
    assert uniform[4]["score"] == float(own[4, 4, 4]["CIDEr"])
    assert uniform[5]["score"] is None
    assert told["vs_best_uniform"] == {
        "difference": pytest.approx(told["score"] - uniform[4]["score"]),
        "ci95": None,
    }
    # a table does not say what groups weigh, or lose alone
    assert [each.pop("name") for each in found["rivals"]] == ["even_mix", "additive"]
    assert {value for each in found["rivals"] for value in each.values()} == {None}
    for key in ("vs_even_mix", "vs_additive"):
        assert told[key] == {"difference": None, "ci95": None}
    assert found["full_precision"]["score"] is None
    assert max(each["score"] for each in found["front"]) == told["score"]
    shares = found["importance"]["group"]
    assert set(shares) == {"vit_bits", "qformer_bits", "llm_bits"}
    assert sum(each["consensus"] for each in shares.values()) == pytest.approx(100)
    assert found["importance"]["component"] == {}
    assert "tell none" in found["importance"]["unreliable"]["component"]


@pytest.mark.slow
def test_full_precision_is_told_where_it_was_read() -> None:
    found = replayed(RECALLS, "img_r1", "16", "--trials", "3")
    row = next(
        r for r in rows_of(RECALLS) if r["vit_bits"] == r["qformer_bits"] == "16"
    )
    assert found["full_precision"]["score"] == float(row["img_r1"])


def command(*words: str) -> Result:
    return CliRunner().invoke(main, ["replay", *words])


def replayed(path: Path, score: str, budget: str, *words: str) -> dict[str, Any]:
    result = command(str(path), "--score", score, "--budget", budget, "--json", *words)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_person_is_told_what_was_found_and_what_repeats(tmp_path: Path) -> None:
    path = small(tmp_path)
    path.write_text(path.read_text() + "2,2,2.5,9\n")
    result = command(str(path), "--score", "score", "--budget", "3.5")
    assert result.exit_code == 0, result.output
    assert "2 scores read; 2 of 3 rows fit" in result.stdout
    assert "1 rows repeat" not in result.stdout
    assert "A row repeats the bits of another" in result.stdout
    assert "Nothing better than 3 bits everywhere was found" in result.stdout


@pytest.mark.slow
def test_a_gain_over_uniform_is_said() -> None:
    words = ("--score", "CIDEr", "--budget", "5", "--trials", "20")
    result = command(str(CAPTIONS), *words)
    # (3, 4, 5) scores 1.2267 and 4 bits everywhere 1.1819
    assert "CIDEr over 4 bits everywhere" in result.stdout
    assert "+0.044" in result.stdout


def test_a_table_without_uniform_rows_is_searched_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a_bits,b_bits,bpw,score\n2,3,2.5,1\n3,2,2.6,2\n")
    found = replayed(path, "score", "3")
    assert found["uniform"] == []
    assert found["recommended"]["score"] == 2.0
    assert found["recommended"]["vs_best_uniform"]["difference"] is None
    assert (
        "nothing to compare"
        in command(str(path), "--score", "score", "--budget", "3").stdout
    )


GOOD = (str(CAPTIONS), "--score", "CIDEr", "--budget", "4")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("none.csv", *GOOD[1:]), "no table none.csv"),
        ((str(CAPTIONS), "--score", "Cider", "--budget", "4"), "no column 'Cider'"),
        ((*GOOD, "--bpw", "size"), "no column 'size'"),
        ((*GOOD[:3], "--budget", "2"), "smallest row of blip2_coco_awq.csv, 2.5203"),
        ((*GOOD[:3], "--budget", "four"), "'four' is neither a number"),
        ((*GOOD[:3], "--budget", "-4"), "-4 is not a positive number"),
        ((*GOOD[:3], "--budget", "nan"), "nan is not a positive number"),
        ((*GOOD[:3], "--budget", "3GiB"), "'3GiB' is a size"),
        ((*GOOD, "--trials", "0"), "trials must be 1 or more, not 0"),
        ((*GOOD, "--seed", "-1"), "seed must be 0 or more, not -1"),
        ((*GOOD, "--strategy", "surogate"), "Did you mean 'surrogate'?"),
        ((str(ROOT), *GOOD[1:]), "Is a directory"),
        ((*GOOD[:3],), "Missing option '--budget'"),
        ((*GOOD, "--trials", "many"), "'many' is not a valid integer"),
    ],
)
def test_wrong_requests_are_refused(words: tuple[str, ...], said: str) -> None:
    result = command(*words)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 6


@pytest.mark.slow
def test_a_replay_imports_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from allocator.cli import main; "
        f"main({['replay', *GOOD, '--trials', '6', '--json']!r}, standalone_mode=False)"
        "; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
