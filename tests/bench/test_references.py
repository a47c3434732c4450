"""Replies of full precision that are references: asked for once, the same for all."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench import references
from allocator.bench.banks import build_bank_of
from allocator.bench.loading import judges_of, open_full_precision, recipe_of
from allocator.bench.prepare import Setup, prepare
from allocator.bench.references import adopt, foretold, referred
from allocator.bench.sense import Said, judge_replies
from allocator.bench.tasks import without_references
from allocator.core.errors import ModelError
from allocator.core.study import StudySpec
from allocator.core.watch import Silent
from allocator.study.journal import Journal
from tests.itself import SIZES, ask_itself
from tests.searches import Told
from tests.worlds import homes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from allocator.core.ports import Sample, Split

ASKED = StudySpec("4.0", "vqav2", model="tiny-llava", methods=("uniform",))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, drawn_world: Path) -> Iterator[Path]:
    with homes(tmp_path, drawn_world):
        yield tmp_path / "cache-home" / "allocate" / "replies"


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> Setup:
    ask_itself(monkeypatch)
    return prepare(ASKED)


@dataclass
class Parrot:
    """Replies with a sample's id, or with what it is told to say behind it."""

    more: str = ""
    sets: list[int] = field(default_factory=list)
    said: dict[str, Said] = field(default_factory=dict)

    def predictions(
        self, allocation: Any, samples: Sequence[Sample], tick: Any = lambda _: None
    ) -> list[str]:
        assert {choice.bits for _, choice in allocation} == {16}
        assert not any(sample.references for sample in samples)
        self.sets.append(len(samples))
        self.said = {"vqav2": Said(len(samples), cut=1)}
        tick(len(samples))
        return [f"{sample.id}{self.more}" for sample in samples]


def parrot(more: str = "") -> Any:
    return Parrot(more)


def nobody(*_: Any) -> Any:
    raise AssertionError("the model was asked")


def journal_in(folder: Path, setup: Setup) -> Journal:
    return Journal.create(f"{folder}/studies.log", "study", setup.identity, {})


def said_in(setup: Setup, split: Any) -> list[str]:
    return [reply for each in setup.samples[split] for reply in each.references]


def test_each_sample_has_what_full_precision_replies(setup: Setup) -> None:
    told = Told()
    found = referred(setup, told)
    assert told.phases[-1] == "references"
    bench = open_full_precision(setup)
    for split, own in found.samples.items():
        assert without_references(own) == setup.samples[split]
        asked = without_references(own)
        assert said_in(found, split) == bench.predictions(setup.space.full, asked)
    # what people answered is in the files, and is not what is said
    assert len(Counter(said_in(found, "evaluation"))) > 5


def test_the_model_is_asked_once_whoever_asks(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = referred(setup, Silent())
    monkeypatch.setattr(references, "open_full_precision", nobody)
    assert referred(setup, Silent()).samples == first.samples
    assert referred(first, Silent()) is first
    # a bank, or an evaluation, has other sets: each is asked as a whole
    some: tuple[tuple[Split, ...], ...] = (
        ("calibration",),
        ("calibration", "evaluation"),
    )
    for splits in some:
        part = referred(prepare(ASKED, splits), Silent())
        assert part.samples == {split: first.samples[split] for split in splits}
        assert recipe_of(part).digest == recipe_of(first).digest
    built = build_bank_of(ASKED, Silent())
    assert built["bank"].endswith(recipe_of(first).digest)


def test_what_is_tuned_is_judged_by_references_too(setup: Setup) -> None:
    found = referred(setup, Silent(), parrot())
    judges = judges_of(found)
    assert judges == found.judges
    assert without_references(judges) == without_references(judges_of(setup))
    assert [each.references for each in judges] == [(each.id,) for each in judges]
    assert judges
    plain = prepare(replace(ASKED, tune=False))
    assert referred(plain, Silent(), parrot()).judges == ()


def test_a_study_is_the_same_whatever_was_replied(setup: Setup) -> None:
    found = referred(setup, Silent(), parrot())
    assert found.identity == setup.identity
    assert recipe_of(found).digest != recipe_of(setup).digest


def test_a_study_goes_on_with_its_own_replies(
    setup: Setup, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_in(tmp_path, setup)
    first = referred(setup, Silent(), parrot(), journal)
    for file in home.glob("*.json"):
        file.unlink()
    monkeypatch.setattr(references, "open_full_precision", nobody)
    again = journal_in(tmp_path, setup)
    assert referred(setup, Silent(), journal=again).samples == first.samples
    # what is remembered, of another machine perhaps, counts less
    for file in home.glob("*.json"):
        file.unlink()
    other = referred(setup, Silent(), parrot(" or so"))
    assert other.samples != first.samples
    adopt(setup, again)
    assert referred(setup, Silent()).samples == first.samples


def test_of_two_workers_the_first_to_be_done_counts(
    setup: Setup, home: Path, tmp_path: Path
) -> None:
    slow, quick = (journal_in(tmp_path, setup) for _ in range(2))

    class Slow(Parrot):
        """Another worker, elsewhere, is done while this one is at it."""

        def predictions(self, *args: Any) -> list[str]:
            if not self.sets:
                self.sets.append(0)
                referred(setup, Silent(), parrot(" there"), quick)
                for file in home.glob("*.json"):
                    file.unlink()
            return super().predictions(*args)

    bench: Any = Slow(" here")
    with pytest.MonkeyPatch.context() as patch:
        # locks are of one machine
        patch.setattr(references, "locked", nullcontext)
        found = referred(setup, Silent(), bench, slow)
    assert all(reply.endswith(" there") for reply in said_in(found, "search"))
    assert referred(setup, Silent(), journal=quick).samples == found.samples


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"digest": 1, "texts": []}'])
def test_replies_that_are_not_what_was_written_are_asked_for_again(
    setup: Setup, home: Path, damage: str
) -> None:
    first = referred(setup, Silent(), parrot())
    for file in home.glob("*.json"):
        text = file.read_text().replace('"cut": 1', '"cut": 2')
        file.write_text(damage or text)
    bench = parrot()
    assert referred(setup, Silent(), bench).samples == first.samples
    assert sorted(bench.sets)[:1] == [SIZES["calibration"]]


def test_what_was_set_up_for_other_replies_is_asked_for_again(setup: Setup) -> None:
    referred(setup, Silent(), parrot())
    task: Any = setup.task
    longer = replace(setup, task=replace(task, max_new_tokens=11))
    beams = replace(setup, asked=replace(ASKED, beams=2))
    other = replace(setup, weights="others")
    for each in (longer, beams, other):
        bench = parrot()
        referred(each, Silent(), bench)
        assert SIZES["evaluation"] in bench.sets


def test_full_precision_agrees_with_itself_without_being_asked(setup: Setup) -> None:
    found = referred(setup, Silent(), parrot())
    bench = open_full_precision(setup)
    bench.model = None  # type: ignore[assignment]
    full, ticks = setup.space.full, list[int]()
    score = bench.score(full, found.samples["search"], ticks.append)
    assert set(score.values) == {100.0}
    assert ticks == [SIZES["search"]]


def test_how_many_are_to_be_asked_is_known_before(setup: Setup) -> None:
    guessed, lacking = foretold(setup)
    judges = judges_of(setup)
    assert lacking == sum(SIZES.values()) + len(judges)
    assert all(each.references for own in guessed.samples.values() for each in own)
    found = referred(setup, Silent(), parrot())
    assert foretold(setup) == (found, 0)
    assert foretold(found) == (found, 0)


def test_where_full_precision_wavers_it_is_said(setup: Setup) -> None:
    class Wavering(Parrot):
        """Says something else where few are asked of the evaluation or search set."""

        def predictions(self, allocation: Any, samples: Any, *tick: Any) -> list[str]:
            found = super().predictions(allocation, samples, *tick)
            if len(self.sets) > 4:
                found[:3] = ["something else"] * 3
            return found

    told, bench = Told(), Wavering()
    referred(setup, told, bench)  # type: ignore[arg-type]
    # every second of the search set
    assert bench.sets[4:] == [16]
    assert any("gives 3 of 16 other replies" in line for line in told.said)
    assert bench.said == {}


def test_what_replies_the_same_to_all_is_refused(setup: Setup) -> None:
    class Mute(Parrot):
        """Says nothing."""

        def predictions(self, *args: Any) -> list[str]:
            return [""] * len(super().predictions(*args))

    bench: Any = Mute()
    with pytest.raises(ModelError, match="tiny-llava replies nothing to 72 of 72"):
        referred(setup, Silent(), bench)
    # who only calibrates on it scores nothing
    part = prepare(ASKED, ("calibration",))
    assert referred(part, Silent(), bench).samples["calibration"]


@pytest.mark.parametrize(
    ("replies", "words"),
    [
        (["yes"] * 98 + ["no"] * 2, "replies 'yes' to 98 of 100 samples at full"),
        (["Yes.", "yes"] * 50, "agreement with that means nothing"),
        ([""] * 99 + ["no"], "replies nothing to 99 of 100"),
    ],
)
def test_agreement_with_what_never_changes_means_nothing(
    replies: list[str], words: str
) -> None:
    found = judge_replies("m", replies, 0, 10)
    assert found.refused is not None
    assert words in found.refused


def test_what_is_odd_about_replies_is_said() -> None:
    found = judge_replies("m", ["yes"] * 80 + ["no"] * 20, 7, 10)
    assert found.refused is None
    usual, cut = found.warnings
    assert "whatever always says so agrees with 80 % of them" in usual
    assert "7 of 100 replies of full precision are cut off at 10 tokens" in cut
    assert judge_replies("m", ["yes", "no"] * 50, 0, 10).warnings == ()
