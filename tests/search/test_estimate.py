from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from allocator.cli import search as cli
from allocator.core.allocation import Allocation, Choice
from allocator.core.errors import SpecError
from allocator.core.spec import LeftOut, ModelSpec, build_groups
from allocator.explain.shown import Shown
from allocator.search.estimate import Known, estimate, promised
from allocator.search.propose import propose
from allocator.search.run import baselines
from allocator.space.model import within
from allocator.study.journal import ARITHMETIC, MEASURED, SPEC, Journal
from tests.conftest import toy_linears
from tests.searches import asked_for, damage_of, score, search_of, space_of

if TYPE_CHECKING:
    from allocator.search.running import Search

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "xgboost", "shap", "sklearn"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that has searched 5 bits, and nothing else since."""
    file = tmp_path_factory.mktemp("template") / "studies.db"
    head = LeftOut("head", 32 * 96, "the output layer stays as it is")
    spec = ModelSpec("toy", 102_400, build_groups(toy_linears()), (head,))
    asked = asked_for(storage=f"sqlite:///{file}", study="study", trials=6)
    search = search_of(spec, f"sqlite:///{file}", asked)
    baselines(search)
    propose(search)
    return file


@pytest.fixture
def url(tmp_path: Path, template: Path) -> str:
    shutil.copy(template, tmp_path / "studies.db")
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def search(toy: ModelSpec, url: str) -> Search:
    """The study that has searched 5 bits."""
    return search_of(toy, url, asked_for(storage=url, study="study", trials=6))


def wanted(url: str, **options: Any) -> Any:
    return estimate(asked_for(storage=url, **{"study": "study", **options}))


def test_where_nothing_was_measured_nothing_is_estimated(
    tmp_path: Path, url: str
) -> None:
    assert wanted(url, budget="4", study="another") is None
    assert wanted(f"sqlite:///{tmp_path}/none.db", budget="4") is None
    assert not (tmp_path / "none.db").exists()


def test_a_line_through_two_scores_promises_nothing(
    toy: ModelSpec, tmp_path: Path
) -> None:
    url = f"{tmp_path}/few.log"
    search = search_of(toy, url, asked_for(storage=url, study="study", rungs=False))
    space = search.setup.space
    for count, allocation in enumerate((space.full, *space.uniform[:3]), start=1):
        search.measure(allocation, "uniform")
        assert (wanted(url, budget="4", rungs=False) is None) == (count < 4)


def test_a_budget_that_was_searched_is_not_estimated(url: str) -> None:
    assert wanted(url, budget="5.00") is None
    assert wanted(url, budget="4") is not None


def test_other_goals_are_not_estimated(url: str) -> None:
    assert wanted(url, front=True) is None
    assert wanted(url, min_score=0.9) is None


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"symmetric": True},
        {"model": "tiny-llava"},
        {"widths": (2, 4)},
        {"device": "cuda:1"},
        {"target": "mlx"},
    ],
)
def test_a_study_that_measures_something_else_says_nothing(
    url: str, other: dict[str, Any]
) -> None:
    assert wanted(url, budget="4", **other) is None


@pytest.mark.parametrize(
    "free",
    [{"strategy": "random"}, {"trials": 99}, {"rungs": False}, {"seconds": 9.0}],
)
def test_how_it_is_searched_makes_no_difference(url: str, free: dict[str, Any]) -> None:
    assert wanted(url, budget="4", **free) == wanted(url, budget="4")


def test_a_study_of_before_is_one_for_no_target(url: str) -> None:
    journal = Journal.load(url, "study")
    kept = dict(journal.attribute(SPEC))
    assert kept.pop("target") == "none"
    before = wanted(url, budget="4")
    journal.set_attribute(SPEC, kept)
    assert wanted(url, budget="4") == before is not None


def test_a_study_of_before_says_nothing_of_what_no_search_goes_on_with(
    url: str,
) -> None:
    Journal.load(url, "study").set_attribute(ARITHMETIC, None)
    assert wanted(url, budget="4") is None


@pytest.mark.parametrize("budget", ["3.5", "4", "4.5", "6", "7"])
def test_an_estimate_fits_and_is_near_the_truth(
    search: Search, url: str, budget: str
) -> None:
    space = search.setup.space
    found = wanted(url, budget=budget)
    seen = {a.digest for _, a, _, _ in search.journal.looks(space)}
    measured = {record.allocation.digest for record in search.records}
    assert found.looked == len(seen - measured)
    assert found.bpw <= float(budget)
    assert found.bpw == pytest.approx(search.setup.space.bpw(found.allocation))
    # within what it says of itself, which is no excuse for saying much
    assert 0 <= found.spread < 4
    assert abs(found.score - score(found.allocation)) <= max(3, 2 * found.spread)
    # full precision, four uniform allocations, the even mix, six proposals
    assert (found.measured, found.study) == (6 + 6, "study")
    assert found.looked > 0


def test_of_what_was_measured_the_best_that_fits_is_a_lower_bound(
    search: Search, url: str
) -> None:
    shown = Shown.of(search.journal, search.setup.space)
    for bits in ("4.2", "6"):
        known = [r for r in search.records if r.bpw <= float(bits) and r.kind != "full"]
        found = wanted(url, budget=bits)
        assert found.score >= max(shown.score(r.allocation.digest) for r in known)


@pytest.mark.parametrize("seed", range(4))
def test_a_larger_budget_is_never_promised_less(toy: ModelSpec, seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = space_of(toy)
    damage = {k: v * rng.lognormal() for k, v in damage_of(space).items()}

    def drawn(count: int) -> list[tuple[Allocation, float]]:
        picks = rng.integers(len(space.choices), size=(count, len(space.keys)))
        chosen = [[space.choices[at] for at in row] for row in picks]
        found = [Allocation(tuple(zip(space.keys, own, strict=True))) for own in chosen]
        return [(a, score(a) + 5 * rng.normal()) for a in found]

    known = Known.of(drawn(20), drawn(60), damage)
    least = space.bpw(space.smallest)
    told = []
    for bpw in np.linspace(least + 0.01, 9, 120):
        inside = within(space, float(bpw))
        allocation, value, _ = promised(known, inside)
        assert inside.fits(allocation)
        told.append(value)
    assert told == sorted(told)
    assert told[-1] > told[0]


def test_the_best_of_many_looks_is_promised_to_nobody(toy: ModelSpec) -> None:
    rng = np.random.default_rng(0)
    space = space_of(toy)
    wide = [space.smallest.replace({key: Choice(8, "awq")}) for key in space.keys]
    every = [a.replace({k: Choice(4, "awq")}) for a in wide for k in space.keys]
    # all are as good, and looks say nothing: they miss by 5
    looks = [(a, 70 + 5 * rng.normal()) for a in every]
    measured = [(a, 70 + 0.1 * rng.normal()) for a, _ in looks[:12]]
    known = Known.of(measured, looks, damage_of(space))
    assert max(score for _, score in looks) > 78
    assert max(score for _, score in known.scores) < 72


def test_what_was_not_chosen_on_the_search_set_is_promised_as_it_is(
    search: Search, url: str
) -> None:
    # everything scores 2 less on the evaluation set
    for record in search.records:
        if record.kind != "proposal":
            kept = {"values": [record.score - 2] * 500, "applied": record.applied}
            search.journal.set_attribute(MEASURED + record.applied, kept)
    before = {record.score for record in search.records}
    found = wanted(url, budget="6")
    assert found.score <= max(before) - 2 + 1e-6
    assert "on the evaluation set" in found.sentence


def test_full_precision_is_promised_to_nobody_who_left_it_out(url: str) -> None:
    found = wanted(url, budget="1GiB")
    assert Choice(16) not in {choice for _, choice in found.allocation}
    # the best there is: everything at 8 bits by the better method
    assert found.score <= 90


def test_a_budget_that_nothing_keeps_is_left_to_the_search_to_refuse(url: str) -> None:
    assert wanted(url, budget="1") is None


@pytest.mark.parametrize("storage", ["nonsense", "sqlite:////nowhere/at/all.db"])
def test_a_storage_that_cannot_be_opened_is_left_to_the_search_to_refuse(
    storage: str,
) -> None:
    assert wanted(storage, budget="4") is None


def test_the_sentence_says_what_it_rests_on(url: str) -> None:
    found = wanted(url, budget="4")
    assert found.sentence.startswith("estimate: ")
    for part in (
        f"about {found.score:.2f}",
        f"{found.bpw:.3f} bpw",
        f"from {found.measured} measured",
        f"{found.looked} looked at in study study",
    ):
        assert part in found.sentence
    assert "\n" not in found.sentence


def test_it_needs_no_heavy_library(search: Search, url: str) -> None:
    asked = {**search.journal.attribute(SPEC), "budget": "4"}
    program = (
        "import json, sys\n"
        "from allocator.core.study import StudySpec\n"
        "from allocator.search.estimate import estimate\n"
        "found = estimate(StudySpec.read(json.loads(sys.argv[1])))\n"
        "print(found.sentence)\n"
        "print(*{name.split('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(asked)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    sentence, loaded = done.stdout.splitlines()
    assert sentence == wanted(url, budget="4").sentence
    assert "optuna" in loaded.split()
    assert not HEAVY & set(loaded.split())


def test_the_line_stands_before_anything_is_looked_up_or_measured(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    def refuse(*_: object, **__: object) -> None:
        raise SpecError("this is where the search begins")

    monkeypatch.setattr("allocator.bench.prepare.prepare", refuse)
    words = ["--task", "vqav2", "--budget", "4"]
    words += ["--methods", "uniform,awq", "--widths", "2,4,8"]
    words += ["--study", "study", "--storage", url]
    done = CliRunner().invoke(cli.main, words)
    lines = done.stderr.splitlines()
    assert done.stdout == ""
    assert lines[0].startswith("estimate: about ")
    assert lines[-1] == "allocate: this is where the search begins"
