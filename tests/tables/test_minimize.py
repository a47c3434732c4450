"""What is better when lower is found and said as such, in the table's own numbers."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import allocator
from allocator.cli.search import main
from allocator.core.errors import SpecError
from allocator.core.plugins import available, load
from allocator.report.data import replay_report
from allocator.report.page import page
from allocator.report.view import score_label
from allocator.report.view_surrogate import side_of
from allocator.report.view_trials import axes, bands
from allocator.space.table import TableSpace, read_table
from allocator.tables.oracle import Oracle, read_rows
from allocator.tables.replay import Replay, ReplayRequest, run

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

KEYS = ("a_x_attn_bits", "a_x_ff_bits", "b_x_attn_bits", "b_x_ff_bits")
BUDGET = 4.6


def rows() -> list[tuple[list[float], float, float]]:
    """Bits, bits per weight, and what is gained by them, of 60 rows."""
    chance = random.Random(0)
    found: dict[tuple[float, ...], tuple[list[float], float, float]] = {}
    while len(found) < 60:
        bits = [float(chance.choice((1.58, 3, 4, 7))) for _ in KEYS]
        gain = 3 * bits[2] + 1.5 * bits[3] + 0.3 * bits[0] + 0.1 * bits[2] * bits[3]
        found[tuple(bits)] = (bits, round(sum(bits) / 4 + 0.2, 4), round(gain, 3))
    return [*found.values(), ([4.0] * 4, 4.2, 20.7), ([3.0] * 4, 3.2, 15.3)]


def table(folder: Path, column: str, sign: int) -> Path:
    path = folder / f"{'low' if sign < 0 else 'high'}.csv"
    lines = [",".join([*KEYS, "bpw", column])]
    for bits, bpw, gain in rows():
        lines.append(",".join(map(str, [*bits, bpw, 100 + sign * gain])))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Replay, Replay]:
    """The same search of gains, and of what is lost: 100 - gain for 100 + gain."""
    folder = tmp_path_factory.mktemp("tables")
    return (
        run(ReplayRequest(table(folder, "score", 1), "score", str(BUDGET), trials=32)),
        run(
            ReplayRequest(
                table(folder, "perplexity", -1), "perplexity", str(BUDGET), trials=32
            )
        ),
    )


def test_a_loss_is_searched_as_its_opposite_would_be(
    both: tuple[Replay, Replay],
) -> None:
    high, low = both
    assert [a.digest for a, _ in low.read] == [a.digest for a, _ in high.read]
    assert [score for _, score in low.read] == [
        pytest.approx(200 - score) for _, score in high.read
    ]
    assert low.best[0] == high.best[0]
    assert [(m.allocation, m.bpw) for m in low.front] == [
        (m.allocation, m.bpw) for m in high.front
    ]
    # less and less of it, as it gets larger
    scores = [member.score for member in low.front]
    assert scores == sorted(scores, reverse=True)
    assert low.best[1] == min(score for _, score in low.read)


@pytest.mark.parametrize("name", available("allocator.strategies"))
def test_every_strategy_takes_a_loss_for_what_it_is(tmp_path: Path, name: str) -> None:
    orders = []
    for column, sign in (("score", 1), ("loss", -1)):
        path = table(tmp_path, column, sign)
        space = TableSpace(read_table(path, column, "bpw"), BUDGET)
        oracle = Oracle(space, 12, higher_is_better=sign > 0)
        read_rows(load("allocator.strategies", name)(space, 0), oracle)
        orders.append([allocation.digest for allocation in oracle.order])
    assert len(orders[0]) == 12
    assert orders[0] == orders[1]


def test_the_object_has_the_scores_of_the_table_and_says_which_side_is_better(
    both: tuple[Replay, Replay],
) -> None:
    high, low = (each.to_json() for each in both)
    assert high["higher_is_better"] is True
    assert low["higher_is_better"] is False
    won, lost = (
        each["recommended"]["vs_best_uniform"]["difference"] for each in (high, low)
    )
    assert won > 0
    assert lost == pytest.approx(-won)
    in_table = {100 - gain for _, _, gain in rows()}
    assert low["recommended"]["score"] in in_table
    assert {member["score"] for member in low["front"]} <= in_table
    assert high["table"]["notes"] == []
    (said,) = low["table"]["notes"]
    assert "perplexity is taken to be better when lower" in said
    bits = [choice["bits"] for choice in low["recommended"]["allocation"].values()]
    assert all(isinstance(b, int) or b == 1.58 for b in bits)


def test_explanations_mirror_each_other(both: tuple[Replay, Replay]) -> None:
    high, low = (each.explained for each in both)
    for level in ("component", "group"):
        shares, other = high["importance"][level], low["importance"][level]
        assert list(shares) == list(other)
        for name in shares:
            # ties of splits fall otherwise
            near = pytest.approx(shares[name]["consensus"], abs=5)
            assert other[name]["consensus"] == near
    # what both together cost beyond each alone is a loss either way
    assert high["together"]
    for each, opposite in zip(high["together"], low["together"], strict=True):
        assert opposite["excess"] == pytest.approx(each["excess"], abs=1e-6)
    for step in ("more", "less"):
        moves, others = (e["allocation"][step]["steps"] for e in (high, low))
        assert [m["group"] for m in moves] == [m["group"] for m in others]
        for move, other in zip(moves, others, strict=True):
            assert other["score"] == pytest.approx(-move["score"], abs=1e-4)


def test_more_bits_never_raise_a_loss_and_fewer_never_lower_it(
    both: tuple[Replay, Replay],
) -> None:
    from allocator.explain.neighbours import Neighbours

    _, low = both
    space = low.space.unbounded
    near = Neighbours(space, low.read, higher_is_better=False)
    for allocation, _ in low.read:
        assert all(m.score <= 1e-6 for m in near.moves(allocation, wider=True))
        assert all(m.score >= -1e-6 for m in near.moves(allocation, wider=False))


def test_sentences_say_which_way_it_goes(both: tuple[Replay, Replay]) -> None:
    high, low = both
    told = " ".join(low.explained["sentences"])
    assert "(lower is better)" in told
    assert "less would cost about" in told
    less = next(s for s in low.explained["sentences"] if "less would cost" in s)
    assert "perplexity more:" in less
    other = next(s for s in high.explained["sentences"] if "less would cost" in s)
    assert "score:" in other
    assert "lower is better" not in " ".join(high.explained["sentences"])


def test_a_page_and_its_figures_know_the_better_side(
    both: tuple[Replay, Replay],
) -> None:
    high, low = (replay_report(each, "allocate replay") for each in both)
    assert "Up is better" in page(high)
    assert "lower is better" not in page(high)
    shown = page(low)
    assert "Down is better" in shown
    assert "Up is better" not in shown
    assert "perplexity, lower is better" in shown
    assert "in perplexity (lower is better)" in shown
    assert "Against 4 everywhere" in shown
    assert "is taken to be better when lower" in shown
    assert score_label(low) == "perplexity, lower is better"
    # a part that lowers a loss has the colour of what is good
    assert (side_of(-1.0, low), side_of(1.0, low)) == ("up", "down")
    assert (side_of(-1.0, high), side_of(1.0, high)) == ("down", "up")
    values = axes(low)[-1].values
    best_line = bands(values, lower=True).index(0)
    assert values[best_line] == pytest.approx(min(values), abs=1.0)
    assert bands([3.0, 1.0, 2.0], lower=True)[1] == 0


def command(*words: str) -> Result:
    return CliRunner().invoke(main, [*words])


def replayed(path: Path, score: str, *words: str) -> tuple[dict[str, Any], str]:
    asked = ("replay", str(path), "--score", score, "--budget", str(BUDGET), "--json")
    result = command(*asked, "--trials", "40", *words)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result.stderr


def fitting(pick: Any, sign: int) -> float:
    score: float = pick(100 + sign * gain for _, bpw, gain in rows() if bpw <= BUDGET)
    return score


def test_a_flag_decides_and_undoes_a_guess(tmp_path: Path) -> None:
    named = table(tmp_path, "eval_loss", -1)
    found, said = replayed(named, "eval_loss")
    assert found["recommended"]["score"] == pytest.approx(fitting(min, -1))
    assert "better when lower, by its name (loss); --maximize if it is not" in said
    found, said = replayed(named, "eval_loss", "--maximize")
    assert found["higher_is_better"] is True
    assert "by its name" not in said
    # and rows that get worse with every bit are asked about
    assert "scores fall as bits rise: is lower better? Then give --minimize" in said


def test_a_person_reads_the_tables_own_numbers(tmp_path: Path) -> None:
    path = table(tmp_path, "ppl", -1)
    words = ("--score", "ppl", "--budget", str(BUDGET), "--trials", "12")
    result = command("replay", str(path), *words)
    assert result.exit_code == 0, result.output
    assert "low.csv: ppl, lower is better" in result.stdout
    assert "ppl (lower is better) against 4 bits everywhere" in result.stdout
    # -3.2 of a loss, not +3.2
    assert "\n-" in result.stdout
    assert "-1.58" not in result.stdout


def test_explain_guesses_doubts_and_compares(tmp_path: Path) -> None:
    low, high = table(tmp_path, "loss", -1), tmp_path / "doubtful.csv"
    high.write_text(low.read_text().replace("loss", "value"))
    words = ("explain", str(low), str(high), "--score", "loss", "--score", "value")
    result = command(*words, "--json")
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)["compared"]
    assert (first["higher_is_better"], second["higher_is_better"]) == (False, True)
    assert "loss is taken to be better when lower" in first["notes"][0]
    assert "scores fall as bits rise: is lower better?" in second["notes"][0]
    assert all(each["notes"][0] in result.stderr for each in (first, second))
    # a gain where there is a loss: what is lost together changes its sign
    for each, opposite in zip(first["together"], second["together"], strict=True):
        assert each["excess"] == pytest.approx(-opposite["excess"], abs=1e-6)


def test_a_study_has_no_direction_to_choose() -> None:
    refused = command("explain", "some-study", "--minimize")
    assert refused.exit_code == 2
    assert "--minimize belongs to a table, and some-study is a study" in refused.stderr


def test_the_front_door_takes_it_as_a_word(tmp_path: Path) -> None:
    path = table(tmp_path, "value", -1)
    asked: dict[str, Any] = {"score": "value", "budget": BUDGET, "trials": 40}
    found = allocator.replay(path, progress=False, minimize=True, **asked)
    assert found.best[1] == pytest.approx(fitting(min, -1))
    with pytest.raises(SpecError, match="minimize = 'yes' is of the wrong type"):
        allocator.replay(path, progress=False, minimize="yes", **asked)


def test_what_was_not_read_raises_no_hint(tmp_path: Path) -> None:
    # rows over the budget fall with their bits, those within it do not
    lines = ["a_bits,b_bits,bpw,score"]
    for a in range(2, 9):
        for b in range(2, 9):
            bpw = (a + b) / 2
            lines.append(f"{a},{b},{bpw},{a + b if bpw <= 4 else 100 - 10 * (a + b)}")
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    found = run(ReplayRequest(path, "score", "4", trials=40))
    assert found.notes == []
