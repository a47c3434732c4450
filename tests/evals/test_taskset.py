from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import DataError, SpecError
from allocator.core.ports import Sample, Score, Selection
from evals.interval import bootstrap
from evals.splits import check_disjoint
from evals.taskset import TaskSet, relative, strata, without_shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import Prediction, Split


@dataclass(frozen=True)
class Spelling:
    """A task whose reply has to be the sample's text."""

    name: str
    count: int = 3
    needs: Prediction = "reply"
    subsets: tuple[str, ...] = ()
    metric: str = "share"
    version: int = 1
    max_new_tokens: int = 4
    examples: tuple[Sample, ...] = ()

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        named = f"{split}-{selection.subset}-{selection.fraction}-{selection.seed}"
        return tuple(
            Sample(str(n), data / f"{named}-{n}.jpg", "vqa", f"{n}", (f"{n}",))
            for n in range(self.count)
        )

    def score(self, predictions: Sequence[Any], samples: Sequence[Sample]) -> Score:
        values = tuple(
            float(reply == sample.text)
            for reply, sample in zip(predictions, samples, strict=True)
        )
        return Score(sum(values) / len(values), values)


PAIR = TaskSet((Spelling("a"), Spelling("b", 6, subsets=("val", "test"))))
HERE = Path("data")


def test_a_sets_samples_are_those_of_its_tasks_one_behind_the_other() -> None:
    samples = PAIR.samples(HERE, "evaluation", Selection(seed=3, fraction=0.5))
    assert [sample.id for sample in samples] == [
        *("a:0", "a:1", "a:2"),
        *("b:0", "b:1", "b:2", "b:3", "b:4", "b:5"),
    ]
    assert strata(PAIR, samples) == (3, 6)
    for task, own in PAIR.parts(samples):
        assert own == task.samples(HERE, "evaluation", Selection(3, 0.5))


def test_calibration_takes_turns_so_that_its_first_samples_serve_every_task() -> None:
    samples = PAIR.samples(HERE, "calibration", Selection())
    assert [sample.id for sample in samples] == [
        *("a:0", "b:0", "a:1", "b:1", "a:2", "b:2", "b:3", "b:4", "b:5")
    ]


def test_a_published_set_counts_for_the_tasks_that_have_it() -> None:
    samples = PAIR.samples(HERE, "search", Selection(subset="val"))
    named = {sample.id.split(":")[0]: sample.image.name for sample in samples}
    assert named["a"].startswith("search-None")
    assert named["b"].startswith("search-val")
    # a name that none has reaches them all, and they refuse it
    samples = PAIR.samples(HERE, "search", Selection(subset="nonsense"))
    assert {sample.image.name.split("-")[1] for sample in samples} == {"nonsense"}


def test_tasks_that_no_one_model_can_do_are_refused() -> None:
    with pytest.raises(SpecError, match="a: reply, b: ranking"):
        TaskSet((Spelling("a"), Spelling("b", needs="ranking")))


def test_full_precision_is_a_hundred_percent_of_itself() -> None:
    full = {"a": Score(0.5, (0.0, 1.0)), "b": Score(2.0, (1.0, 2.0, 3.0))}
    found = relative(full, full)
    assert found.mean == pytest.approx(100)
    assert found.details == {"a": 0.5, "b": 2.0}


def test_each_task_counts_the_same_however_many_samples_it_has() -> None:
    full = {"a": Score(50.0, (50.0,)), "b": Score(4.0, (4.0,) * 9)}
    half = {"a": Score(25.0, (25.0,)), "b": Score(4.0, (4.0,) * 9)}
    found = relative(half, full)
    # half of one task's score and all of the other's
    assert found.mean == pytest.approx(75)
    assert sum(found.values) / 10 == pytest.approx(75)


def test_a_task_at_zero_cannot_be_compared_with() -> None:
    with pytest.raises(DataError, match="scores 0 on b"):
        relative(
            {"a": Score(1.0, (1.0,)), "b": Score(1.0, (1.0,))},
            {"a": Score(1.0, (1.0,)), "b": Score(0.0, (0.0,))},
        )


def test_drawing_from_each_task_leaves_no_doubt_where_every_sample_agrees() -> None:
    full = {"a": Score(50.0, (50.0,) * 3), "b": Score(2.0, (2.0,) * 6)}
    found = relative(full, full)
    assert bootstrap(found.values, strata=(3, 6)).ci95 == pytest.approx([100, 100])
    # drawn from as one, the shares of the tasks would vary
    low, high = bootstrap(found.values).ci95
    assert low < 99
    assert high > 101


def test_what_two_tasks_share_stays_with_evaluation_then_with_search() -> None:
    def row(*images: str) -> tuple[Sample, ...]:
        return tuple(
            Sample(f"{n}-{images}", Path(image), "vqa", "", ("x",))
            for n, image in enumerate(images)
        )

    kept = without_shared(
        {
            "calibration": row("1", "2", "3", "4"),
            "search": row("3", "5", "6"),
            "evaluation": row("2", "6", "7"),
        }
    )
    check_disjoint(**kept)
    images = {split: [s.image.name for s in own] for split, own in kept.items()}
    assert images == {
        "calibration": ["1", "4"],
        "search": ["3", "5"],
        "evaluation": ["2", "6", "7"],
    }
    assert list(kept) == ["calibration", "search", "evaluation"]


def test_copies_of_a_picture_are_that_picture() -> None:
    samples = {
        split: (Sample(split, Path(split), "vqa", "", ("x",)),)
        for split in ("calibration", "search", "evaluation")
    }
    held = {Path("calibration"): "a", Path("search"): "b", Path("evaluation"): "a"}
    kept = without_shared(samples, held)  # type: ignore[arg-type]
    assert [len(own) for own in kept.values()] == [0, 1, 1]


def test_versions_of_all_tasks_name_the_sets() -> None:
    other = replace(PAIR.tasks[1], version=2)
    assert TaskSet((PAIR.tasks[0], other)).version != PAIR.version


def test_parts_count_relative_to_full_precision_on_all_samples() -> None:
    samples = PAIR.samples(HERE, "evaluation", Selection())
    right = [sample.text for sample in samples]
    full = PAIR.scores(["wrong", *right[1:5], "wrong", *right[6:]], samples)
    assert [score.mean for score in full.values()] == pytest.approx([2 / 3, 5 / 6])
    said = [*right[:3], "wrong", "wrong", "wrong", *right[6:]]
    whole = relative(PAIR.scores(said, samples), full)
    # 100 of 2/3, and 50 of 5/6, each the same
    assert whole.mean == pytest.approx((150 + 60) / 2)
    places = [0, 2, 4, 6, 7]
    part = PAIR.scores([said[p] for p in places], [samples[p] for p in places], samples)
    # each sample has the value that it has in the whole
    wanted = [whole.values[place] for place in places]
    assert relative(part, full).values == pytest.approx(wanted)
