from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from allocator.core.study import StudySpec
from allocator.report.text_gains import alike_said, compared
from allocator.report.text_search import headline, say, scores_table, sentences
from evals.metrics.agreement import UNIT


def found(difference: float, low: float, high: float, bits: int = 3) -> dict[str, Any]:
    return {
        "metric": "VQA accuracy (%)",
        "budget": {"bpw": 4.0, "scope": "model"},
        "full_precision": {"score": 90.0},
        "uniform": [
            {"bits": 2, "method": "gptq", "bpw": 3.3, "score": 50.0},
            {"bits": 3, "method": "gptq", "bpw": 4.2, "score": None},
        ],
        "importance": {
            "component": {
                "vision": {"consensus": 20.0, "ci95": [10.0, 30.0]},
                "language": {"consensus": 80.0, "ci95": [70.0, 90.0]},
            },
            "group": {},
            "unreliable": {"component": None, "group": None},
        },
        "recommended": {
            "allocation": {"vision.all.all": {"bits": bits, "method": "gptq"}},
            "bpw": 3.9,
            "bpw_quantized": 2.9,
            "score": 50.0 + difference,
            "vs_best_uniform": {"difference": difference, "ci95": [low, high]},
        },
    }


def test_a_gain_beyond_the_noise_is_claimed() -> None:
    said = " ".join(sentences(found(12.0, 8.0, 16.0)))
    assert "+12.00 points [+8.00, +16.00] over 2 gptq everywhere." in said
    assert "-28.00 points to full precision" in said


def test_points_are_percent_and_other_scores_have_their_own_unit() -> None:
    captions = {**found(0.12, 0.08, 0.16), "metric": "CIDEr-D"}
    said = " ".join(sentences(captions))
    assert "+0.12 CIDEr-D [+0.08, +0.16] over 2 gptq everywhere." in said
    assert "points" not in said


def test_further_figures_stand_beside_those_of_full_precision() -> None:
    both = found(12.0, 8.0, 16.0)
    both["recommended"]["details"] = {"vqav2": 61.234, "coco": 5.5}
    both["full_precision"]["details"] = {"vqav2": 90.0, "coco": 6.0}
    said = " ".join(sentences(both))
    assert "vqav2 61.23 (full precision 90); coco 5.5 (full precision 6)." in said


def test_replies_like_those_of_full_precision_are_told_in_words() -> None:
    told = found(12.0, 8.0, 16.0)
    best = told["recommended"]
    assert alike_said(told, best) == []
    best["details"] = {UNIT: 87.25}
    best["divergence"] = {"nats": 0.12345, "tokens": 2_500, "samples": 1_000}
    assert alike_said(told, best) == [
        "87.2 % of the replies are what full precision replies, the tokens of full "
        "precision's replies diverge by 0.1235 nats each (2,500 tokens of 1,000 "
        "samples)."
    ]
    assert alike_said(told, best)[0] in sentences(told)
    # told once: where it is the score it stands elsewhere
    told["metric"] = UNIT
    (line,) = alike_said(told, best)
    assert line.startswith("The tokens of full precision's replies diverge by 0.1235")


def test_single_linears_that_differ_are_counted_and_the_first_named() -> None:
    data = found(12.0, 8.0, 16.0)
    eight = {"bits": 8, "method": "awq"}
    data["recommended"]["layers"] = {f"layers.{n}.q_proj": eight for n in range(5)}
    said = " ".join(sentences(data))
    assert (
        "5 single linears differ from their groups: layers.0.q_proj 8 awq, "
        "layers.1.q_proj 8 awq, layers.2.q_proj 8 awq and 2 more." in said
    )
    data["recommended"]["layers"] = {}
    assert "single linear" not in " ".join(sentences(data))


def test_a_gain_within_the_noise_is_not_claimed() -> None:
    assert "within the noise" in " ".join(sentences(found(1.0, -1.0, 3.0)))


def test_a_uniform_recommendation_says_that_nothing_better_was_found() -> None:
    said = " ".join(sentences(found(0.0, 0.0, 0.0, bits=2)))
    assert "Nothing better than 2 gptq everywhere was found" in said


def test_the_component_that_matters_most_is_named() -> None:
    said = " ".join(sentences(found(12.0, 8.0, 16.0)))
    assert "hangs most on language: 80 % of the importance" in said


@pytest.mark.parametrize(
    "change", [{"unreliable": "too few rows"}, {"ci95": [15.0, 90.0]}]
)
def test_nothing_is_said_of_importance_that_may_be_noise(
    change: dict[str, Any],
) -> None:
    unsure = found(12.0, 8.0, 16.0)
    if "unreliable" in change:
        unsure["importance"]["unreliable"]["component"] = change["unreliable"]
    else:
        # its interval reaches below the share of the next component, 20
        unsure["importance"]["component"]["language"]["ci95"] = change["ci95"]
    assert "hangs most on" not in " ".join(sentences(unsure))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (StudySpec("4.0", "vqav2"), "Your own: --model FOLDER --data DIR"),
        (StudySpec("4.0", "vqav2", model="./m", data="d"), "./m on vqav2 from d"),
    ],
)
def test_the_first_line_says_which_model_and_data(asked: StudySpec, words: str) -> None:
    assert words in headline(asked)


PINS = {"pin": ["[cv]*=16"], "at_least": ["*.ff=3"], "at_most": []}


def test_what_pins_left_uniform_is_named_so_and_pins_are_told() -> None:
    pinned = found(12.0, 8.0, 16.0)
    pinned["pins"] = PINS
    pinned["uniform"][0] |= {"pinned": True, "digest": "rival"}
    pinned["recommended"]["digest"] = "best"
    said = " ".join(sentences(pinned))
    assert "+12.00 points [+8.00, +16.00] over 2 gptq everywhere else." in said
    assert "[cv]*=16, *.ff at least 3." in said
    assert "Around this budget and under these pins the score hangs most on" in said
    # a bound that a uniform allocation keeps anyway leaves it what it is
    pinned["uniform"][0]["pinned"] = False
    assert "over 2 gptq everywhere." in " ".join(sentences(pinned))
    assert "Pins" not in " ".join(sentences(found(12.0, 8.0, 16.0)))


def test_a_pinned_uniform_allocation_is_known_by_its_digest() -> None:
    pinned = found(0.0, 0.0, 0.0, bits=16)
    pinned["uniform"][0] |= {"pinned": True, "digest": "same"}
    pinned["recommended"]["digest"] = "same"
    said = " ".join(sentences(pinned))
    assert "Nothing better than 2 gptq everywhere else was found" in said


def test_patterns_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    say(Console(), "Pins kept: [cv]*=16, [bold]x.")
    assert capsys.readouterr().out == "Pins kept: [cv]*=16, [bold]x.\n"


def test_of_what_never_varied_no_importance_is_told() -> None:
    pinned = found(12.0, 8.0, 16.0)
    pinned["importance"]["component"]["vision"] = {"consensus": 0.0, "ci95": [0.0, 0.0]}
    # of one component that is left it says nothing
    assert "hangs most on" not in " ".join(sentences(pinned))


def with_rivals(**changes: Any) -> dict[str, Any]:
    """2 bits everywhere score 50, the mix 58, the optimum 61, what is found 62."""
    told = found(12.0, 8.0, 16.0)
    told["uniform"][0]["digest"] = "at 2 bits"
    told["rivals"] = [
        {"name": "even_mix", "digest": "mixed", "bpw": 3.8, "score": 58.0},
        {"name": "additive", "digest": "optimal", "bpw": 3.9, "score": 61.0},
    ]
    for each in told["rivals"]:
        each |= {"fits": True, "finalized": None, **changes.pop(each["name"], {})}
    told["recommended"] |= {
        "digest": "the best",
        "vs_even_mix": {"difference": 4.0, "ci95": [2.5, 5.5]},
        "vs_additive": {"difference": 1.0, "ci95": [-0.5, 2.5]},
        **changes,
    }
    return told


def test_the_gain_over_each_rival_is_said_and_whether_it_may_be_noise() -> None:
    said = sentences(with_rivals(even_mix={"finalized": "in sequence"}))
    assert said[1:4] == [
        "+12.00 points [+8.00, +16.00] over 2 gptq everywhere.",
        "+4.00 points [+2.50, +5.50] over the even mix, finalized.",
        "+1.00 points [-0.50, +2.50] over the additive optimum: within the noise of "
        "these samples.",
    ]


def test_a_rival_that_is_recommended_is_named() -> None:
    same = {"difference": 0.0, "ci95": [0.0, 0.0]}
    said = sentences(with_rivals(digest="optimal", vs_additive=same))
    assert said[3] == (
        "Nothing better than the additive optimum was found: it is the recommendation."
    )


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        ({"digest": "at 2 bits"}, "2 gptq everywhere"),
        ({"bpw": 16.0}, "16 everywhere"),
    ],
)
def test_an_even_mix_that_is_a_uniform_allocation_is_said_to_be_one(
    mix: dict[str, Any], words: str
) -> None:
    said = sentences(with_rivals(even_mix=mix))
    assert said[2] == f"+4.00 points [+2.50, +5.50] over the even mix ({words})."


def test_where_rivals_and_recommendation_are_uniform_it_is_said_in_short() -> None:
    same = {"difference": 0.0, "ci95": [0.0, 0.0]}
    versus = {f"vs_{name}": same for name in ("best_uniform", "even_mix")}
    told = with_rivals(even_mix={"digest": "at 2 bits"}, digest="at 2 bits", **versus)
    assert sentences(told)[1:3] == [
        "Nothing better than 2 gptq everywhere was found: it is the recommendation.",
        "The even mix of this size is 2 gptq everywhere, too.",
    ]


def test_the_table_has_rivals_and_what_was_gained_over_them() -> None:
    told = with_rivals(even_mix={"finalized": "in sequence"})
    told |= {"model": "m", "task": "t"}
    told["full_precision"]["ci95"] = told["recommended"]["ci95"] = [60.0, 64.0]
    lines = shown_table(told)
    assert [name for name, *_ in lines] == [
        *("full precision", "2 gptq everywhere", "even mix, finalized"),
        *("additive optimum", "recommended"),
        *("over 2 gptq everywhere", "over the even mix", "over the additive optimum"),
    ]
    assert lines[2][1:] == ["3.800", "58.00"]
    assert lines[-1][1:] == ["", "+1.00 [-0.50, +2.50]"]


def test_results_of_before_have_no_rivals_and_are_shown_all_the_same() -> None:
    told = found(12.0, 8.0, 16.0) | {"model": "m", "task": "t"}
    told["full_precision"]["ci95"] = told["recommended"]["ci95"] = [60.0, 64.0]
    names = [name for name, *_ in shown_table(told)]
    assert names[-2:] == ["recommended", "over 2 gptq everywhere"]
    assert "mix" not in " ".join(sentences(told))


def shown_table(told: dict[str, Any]) -> list[list[str]]:
    """The rows of the first table, as they are printed."""
    table = scores_table(told)
    cells = [list(column.cells) for column in table.columns]
    return [[str(cell) for cell in row] for row in zip(*cells, strict=True)]


def test_a_kept_score_is_told_with_its_probability() -> None:
    kept = found(12.0, 8.0, 16.0) | {"goal": "min-score"}
    retained: dict[str, Any] = {"share": 0.989, "ci95": [0.982, 0.996]}
    kept["recommended"]["retained"] = retained
    told = "It keeps 98.9 % of full precision's score [98.2, 99.6]"
    # studies of before went by the mean
    assert f"{told}." in sentences(kept)
    retained["sure"] = {"share": 0.98199, "probability": 0.95}
    # rounded down: at least that much
    assert f"{told}, with probability 95 % at least 98.1 %." in sentences(kept)


def test_what_stopped_early_says_on_how_many_samples() -> None:
    told = found(12.0, 8.0, 16.0)
    names = [name for name, _ in compared(told)]
    assert names == ["2 gptq everywhere"]
    told["recommended"]["samples"] = 21_435
    told["uniform"][0] |= {"samples": 1_340, "finalized": "a digest"}
    names = [name for name, _ in compared(told)]
    assert names == ["2 gptq everywhere, finalized, on 1,340 samples"]
    told["uniform"][0]["samples"] = 21_435
    assert [name for name, _ in compared(told)] == ["2 gptq everywhere, finalized"]
