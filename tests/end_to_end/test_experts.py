"""A mixture of experts, from its checkpoint to a plan that scores what was said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from allocator.cli.search import main
from allocator.core.plugins import load
from tests.evals.own_files import lines, rows, write
from tests.families.test_qwen_vl import save_parts
from tests.states import made
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
BUDGET = 5.5


@pytest.fixture(scope="module")
def asked(
    tmp_path_factory: pytest.TempPathFactory, drawn_world: Path
) -> Iterator[list[str]]:
    """Questions without answers for a model of two blocks, one of them of experts."""
    folder = tmp_path_factory.mktemp("experts")
    made(load("allocator.families", "qwen_vl"), folder / "model", "3-moe")
    save_parts(folder / "model")
    unanswered = [{key: row[key] for key in ("image", "question")} for row in rows()]
    data = write(folder, "samples.jsonl", lines(unanswered))
    with homes(folder / "homes", drawn_world):
        yield [
            *("--model", str(folder / "model"), "--task", "own", "--data", str(data)),
            *("--metric", "agreement", "--max-new-tokens", "4", "--json"),
        ]


@pytest.fixture(scope="module")
def found(asked: list[str]) -> dict[str, Any]:
    words = ["--budget", str(BUDGET), "--trials", "4", *asked]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    plain: dict[str, Any] = json.loads(done.stdout)
    return plain


def test_its_search_keeps_the_budget_and_decides_for_experts(
    found: dict[str, Any],
) -> None:
    best = found["recommended"]
    assert best["bpw"] <= BUDGET
    assert best["allocation"]["language.all.ff"]["bits"] < 16
    fits = [each["score"] for each in found["uniform"] if each["fits"]]
    assert best["score"] >= max(fits)


def test_its_plan_scores_what_was_recommended(
    found: dict[str, Any], asked: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "plan"
    words = ["export", found["study"], "--format", "plan", "--out", str(out)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    plan = next(out.glob("*.json"))
    done = CliRunner().invoke(main, ["evaluate", "--plan", str(plan), *asked])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["score"] == found["recommended"]["score"]
