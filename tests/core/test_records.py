from __future__ import annotations

import json
from dataclasses import replace

import pytest

from allocator.core.allocation import Allocation, Choice, Scheme
from allocator.core.records import (
    FrontMember,
    Interval,
    Recommendation,
    RivalResult,
    SureShare,
    TokenDivergence,
    UniformResult,
    rival_name,
)
from allocator.core.told import RungReport


def recommendation() -> Recommendation:
    best = UniformResult(Choice(3, "gptq"), "unused", 3.5, 60.0, fits=True)
    found = Allocation((("vision.all.all", Choice(4, "awq")),))
    return Recommendation(
        study="s",
        storage="sqlite://",
        model="m",
        task="t",
        metric="accuracy (%)",
        scheme=Scheme(64),
        budget_bpw=4.0,
        scope="model",
        full_precision=Interval(90.0, 88.0, 92.0),
        uniform=(best, UniformResult(Choice(8, "awq"), "", 9.0, None, fits=False)),
        allocation=found,
        applied="digest of the cells",
        bpw=3.9,
        bpw_quantized=3.7,
        score=Interval(70.0, 68.0, 72.0),
        versus=Interval(10.0, 8.0, 12.0),
        best_uniform=best,
        front=(FrontMember(found, 3.9, 71.0, "evaluation", (70.0, 72.0)),),
        importance={"group": {"vision.all.all": {"consensus": 100.0}}},
        complete=5,
        pruned=2,
        failed=1,
        infeasible=0,
        evaluated_samples=700,
        samples=500,
        seconds=(("total", 9.0), ("bank", 1.0), ("search", 6.0), ("confirm", 2.0)),
        details=(("BLEU-4", 0.3, 0.4),),
        divergence=TokenDivergence(0.25, 30, 9),
        rivals=(
            RivalResult(
                *("even_mix", "of the mix", 3.95, 67.0, True),
                *(Interval(3.0, 1.0, 5.0), "in sequence"),
                samples=250,
            ),
            RivalResult(
                *("additive", "of the optimum", 3.98, 69.5, True),
                Interval(0.5, -1.0, 2.0),
            ),
        ),
    )


def test_json_has_the_keys_that_are_part_of_the_interface() -> None:
    found = json.loads(json.dumps(recommendation().to_json()))
    assert found.keys() >= {
        *("study", "storage", "model", "task", "metric", "higher_is_better", "budget"),
        *("full_precision", "uniform", "recommended", "front", "importance", "trials"),
        *("evaluated_samples", "seconds"),
    }
    assert found["budget"] == {"bpw": 4.0, "scope": "model"}
    full = {"score": 90, "ci95": [88, 92], "bpw": 16, "samples": 500}
    assert found["full_precision"] == {**full, "details": {"BLEU-4": 0.4}}
    assert found["trials"] == {"complete": 5, "pruned": 2, "failed": 1, "infeasible": 0}
    assert found["seconds"].keys() == {"total", "bank", "search", "confirm"}
    assert found["importance"] == {"group": {"vision.all.all": {"consensus": 100}}}


def test_json_shows_what_is_recommended_and_what_it_was_compared_with() -> None:
    asked = recommendation()
    found = json.loads(json.dumps(asked.to_json()))
    assert found["recommended"] == {
        "digest": asked.allocation.digest,
        "applied": "digest of the cells",
        "finalized": None,
        "tuned": False,
        "allocation": {"vision.all.all": {"bits": 4, "method": "awq"}},
        "layers": {},
        "bpw": 3.9,
        "bpw_quantized": 3.7,
        "score": 70,
        "ci95": [68, 72],
        "samples": 500,
        "retained": None,
        "details": {"BLEU-4": 0.3},
        "divergence": {"nats": 0.25, "tokens": 30, "samples": 9},
        "vs_best_uniform": {"difference": 10, "ci95": [8, 12]},
        "vs_even_mix": {"difference": 3, "ci95": [1, 5]},
        "vs_additive": {"difference": 0.5, "ci95": [-1, 2]},
    }
    even_mix, additive = found["rivals"]
    assert even_mix == {
        "name": "even_mix",
        "digest": "of the mix",
        "bpw": 3.95,
        "score": 67,
        "finalized": "in sequence",
        "tuned": False,
        "samples": 250,
        "fits": True,
    }
    assert (additive["name"], additive["score"]) == ("additive", 69.5)
    assert additive["finalized"] is None
    shown = {"finalized": None, "pinned": False, "tuned": False, "samples": 0}
    digests = [each.pop("digest") for each in found["uniform"]]
    assert digests == [each.digest for each in asked.uniform]
    assert found["pins"] == {"pin": [], "at_least": [], "at_most": []}
    assert found["uniform"] == [
        {**shown, "bits": 3, "method": "gptq", "bpw": 3.5, "score": 60, "fits": True},
        {**shown, "bits": 8, "method": "awq", "bpw": 9, "score": None, "fits": False},
    ]
    digest = asked.allocation.digest
    member = {"digest": digest, "bpw": 3.9, "score": 71, "ci95": [70, 72]}
    assert found["front"] == [{**member, "samples": "evaluation"}]


def test_a_recommendation_says_whether_it_is_the_best_uniform_one() -> None:
    asked = recommendation()
    assert not asked.is_uniform
    same = replace(asked.best_uniform, digest=asked.allocation.digest)
    assert replace(asked, best_uniform=same).is_uniform


def test_json_tells_the_goal_the_rungs_and_what_it_took() -> None:
    asked = replace(
        recommendation(),
        goal="min-score",
        retained=Interval(0.98, 0.96, 1.0),
        sure=SureShare(0.965, 0.95),
        finalized="of the weights",
        evaluated_allocations=12,
        rungs=(RungReport("divergence", 32, 9, 0.75, (0.5, 0.9), 3),),
        prefix=(100, 300),
    )
    found = json.loads(json.dumps(asked.to_json()))
    assert found["goal"] == "min-score"
    assert found["recommended"]["retained"] == {
        "share": 0.98,
        "ci95": [0.96, 1],
        "sure": {"share": 0.965, "probability": 0.95},
    }
    assert found["recommended"]["finalized"] == "of the weights"
    assert (found["evaluated_samples"], found["evaluated_allocations"]) == (700, 12)
    rung = {"kind": "divergence", "samples": 32, "count": 9, "spearman": 0.75}
    rung |= {"ci95": [0.5, 0.9], "controls": 3, "predicted": "bank"}
    assert found["rungs"] == [rung]
    assert found["prefix"] == {"ran": 100, "reused": 300}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("even_mix", "even mix"),
        ("linear_fisher", "gradient-weighted optimum of single linears"),
        ("mine.json", "mine.json"),
    ],
)
def test_rivals_have_names_in_words_and_candidates_their_own(
    kind: str, name: str
) -> None:
    assert rival_name(kind) == name
