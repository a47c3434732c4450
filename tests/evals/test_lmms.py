"""The adapter to lmms-eval, against a stand-in for it."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from allocator.core.errors import AllocateError, DataError, ReplyError
from allocator.core.ports import Selection
from evals.lmms import PICTURES, lmms_task
from evals.splits import check_disjoint
from tests.evals.lmms_double import (
    Library,
    chosen,
    exact,
    largest,
    mean,
    mean_of_entries,
    percent,
    pixels,
    rows,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    return Library(monkeypatch)


def test_without_lmms_eval_one_sentence_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lmms_eval", None)
    with pytest.raises(DataError, match="task lmms:gqa needs lmms-eval: pip install"):
        lmms_task("gqa")


def test_sets_share_no_picture_and_hold_what_the_division_says(
    library: Library, tmp_path: Path
) -> None:
    task = library.task({"test": rows(range(40))})
    samples = chosen(task, tmp_path)
    check_disjoint(**samples)
    # of 40 pictures with two documents each: a quarter, an eighth with one, the rest
    sizes = {split: len(part) for split, part in samples.items()}
    assert sizes == {"calibration": 5, "search": 20, "evaluation": 50}


def test_documents_that_show_the_same_pixels_stay_together(
    library: Library, tmp_path: Path
) -> None:
    # pictures 0 .. 9 come twice, at places far from each other
    again = [*rows(range(40), 1), *rows(range(10), 1)]
    samples = chosen(library.task({"test": again}), tmp_path)
    check_disjoint(**samples)


def test_calibration_comes_from_a_training_split_without_its_shared_pictures(
    library: Library, tmp_path: Path
) -> None:
    # of the pictures 30 .. 49, ten are in the test split too
    task = library.task({"test": rows(range(40)), "train": rows(range(30, 50))})
    samples = chosen(task, tmp_path)
    check_disjoint(**samples)
    assert len(samples["calibration"]) == 10
    assert {s.id.partition("-")[0] for s in samples["calibration"]} == {"train"}
    assert len(samples["evaluation"]) == 60


def test_a_sample_has_the_tasks_own_words_and_its_picture_as_a_file(
    library: Library, tmp_path: Path
) -> None:
    given = rows(range(12), 1)
    samples = chosen(library.task({"test": given}), tmp_path)["evaluation"]
    for sample in samples:
        row = given[int(sample.id.removeprefix("test-"))]
        assert sample.prompt == "plain"
        assert sample.text == f"{row['question']}\nAnswer with one word."
        assert sample.references == (row["answer"],)
        assert sample.image.parent == tmp_path / PICTURES
        with Image.open(sample.image) as kept:
            assert pixels(kept) == pixels(row["image"])


def test_several_targets_are_several_references(
    library: Library, tmp_path: Path
) -> None:
    given = [{**row, "answer": ["red", "reddish", 3]} for row in rows(range(9), 1)]
    task = library.task({"test": given}, process=lambda *_: 1.0)
    samples = chosen(task, tmp_path)["search"]
    assert samples[0].references == ("red", "reddish", "3")


def test_pictures_are_written_once_and_leave_nothing_else_behind(
    library: Library, tmp_path: Path
) -> None:
    task = library.task({"test": rows(range(12))})
    samples = chosen(task, tmp_path)
    first = {file: file.stat().st_mtime_ns for file in (tmp_path / PICTURES).iterdir()}
    assert set(first) == {s.image for part in samples.values() for s in part}
    again = chosen(library.task({"test": rows(range(12))}), tmp_path)
    assert again == samples
    assert {file: file.stat().st_mtime_ns for file in first} == first


def test_the_seed_decides_the_order(library: Library, tmp_path: Path) -> None:
    task = library.task({"test": rows(range(40))})
    one, other = (chosen(task, tmp_path, Selection(seed=seed)) for seed in (1, 2))
    assert one != other
    assert chosen(task, tmp_path, Selection(seed=1)) == one


def test_a_fraction_counts_from_the_whole_split(
    library: Library, tmp_path: Path
) -> None:
    task = library.task({"test": rows(range(40))})
    whole = chosen(task, tmp_path)["evaluation"]
    part = task.samples(tmp_path, "evaluation", Selection(fraction=0.25))
    assert part == whole[:20]
    with pytest.raises(DataError, match="has 50 of 80 documents for evaluation"):
        task.samples(tmp_path, "evaluation", Selection(fraction=0.7))


def test_two_pictures_are_too_few_to_divide(library: Library, tmp_path: Path) -> None:
    task = library.task({"test": rows(range(2))})
    with pytest.raises(DataError, match="2 different pictures are too few"):
        task.samples(tmp_path, "search", Selection())


def test_a_subset_other_than_the_scored_split_is_refused(
    library: Library, tmp_path: Path
) -> None:
    task = library.task({"test": rows(range(9))})
    assert task.subsets == ("test",)
    with pytest.raises(DataError, match="no subset 'dev'"):
        task.samples(tmp_path, "search", Selection(subset="dev"))


@pytest.mark.parametrize(
    ("process", "aggregate", "expected"),
    [
        (exact, mean, (1.0, 0.0)),
        (exact, percent, (100.0, 0.0)),
        (lambda row, got: {"score": exact(row, got)}, mean_of_entries, (1.0, 0.0)),
    ],
    ids=["share", "percent", "entries"],
)
def test_values_are_the_documents_own_in_the_unit_that_is_printed(
    library: Library,
    tmp_path: Path,
    process: Any,
    aggregate: Any,
    expected: tuple[float, float],
) -> None:
    task = library.task({"test": rows(range(16))}, process=process, aggregate=aggregate)
    samples = chosen(task, tmp_path)["search"][:2]
    score = task.score([f" {samples[0].references[0]} ", "nothing"], samples)
    assert score.values == expected
    assert score.mean == sum(expected) / 2


def test_a_number_of_replies_other_than_of_samples_is_refused(
    library: Library, tmp_path: Path
) -> None:
    task = library.task({"test": rows(range(9))})
    with pytest.raises(ReplyError, match="each sample needs exactly one"):
        task.score(["red"], chosen(task, tmp_path)["evaluation"])


def test_metric_version_and_length_are_the_tasks(library: Library) -> None:
    parts = {"test": rows(range(9))}
    task, other = library.task(parts), library.task(parts, "toy@other")
    assert (task.name, other.name) == ("lmms:toy", "lmms:toy@other")
    assert task.metric == "exact_match as lmms-eval prints it"
    assert other.metric == "other as lmms-eval prints it"
    assert task.max_new_tokens == 16
    library.tasks["toy"].config.metadata = [{"version": 1.1}]
    versions = {task.version, other.version, lmms_task("toy").version}
    assert len(versions) == 3
    assert min(versions) >= 1


def broken(*_: object) -> float:
    error: Any = RuntimeError("tried five times")
    last = KeyError("no such field")
    error.last_attempt = SimpleNamespace(exception=lambda: last)
    raise error


def echo(_: object, replies: list[str]) -> str:
    return replies[0]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"settings": {"output_type": "loglikelihood"}}, "is of output_type loglike"),
        ({"settings": {"doc_to_visual": None}}, "shows no picture"),
        ({"settings": {"num_fewshot": 5}}, "puts examples in front"),
        ({"settings": {"repeats": 8}}, "asks several times"),
        ({"settings": {"generation_kwargs": {"do_sample": True}}}, "samples its"),
        ({"settings": {"generation_kwargs": {"num_beams": 3}}}, "searches with beams"),
        ({"higher": False}, "not stated to be better when it is higher"),
        ({"aggregate": largest}, "is 1 and the mean of its documents 0.6"),
        ({"process": echo}, "cannot be scored: TypeError"),
        ({"process": echo, "aggregate": len}, "gives no number for document test-0"),
        ({"process": broken}, "cannot be scored: KeyError: 'no such field'"),
        ({"name": "toy@bleu"}, "no metric of lmms:toy 'bleu'"),
        ({"name": "tpy"}, "no task 'tpy'; did you mean 'toy'"),
        ({"name": "to"}, "to is a group of lmms-eval, not one task, such as toy"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    library: Library, how: dict[str, Any], reason: str
) -> None:
    with pytest.raises(AllocateError, match=reason):
        library.task({"test": rows(range(9))}, **how)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_gives_no_number_for_some_replies_gives_no_score(
    library: Library, tmp_path: Path, value: float
) -> None:
    def divides(row: dict[str, Any], replies: list[str]) -> float:
        return value if replies[0] == "!!!!" else exact(row, replies)

    task = library.task({"test": rows(range(16))}, process=divides)
    samples = chosen(task, tmp_path)["search"][:2]
    found = task.score([samples[0].references[0], "!!!!"], samples)
    assert math.isnan(found.mean)
    assert found.values[0] == 1
    assert not math.isfinite(found.values[1])
    # one that never gives any is refused when it is loaded
    with pytest.raises(DataError, match="gives no number for document test-"):
        library.task({"test": rows(range(9))}, process=lambda *_: value)


@pytest.mark.parametrize("pictures", [0, 2])
def test_only_one_picture_a_document_is_supported(
    library: Library, tmp_path: Path, pictures: int
) -> None:
    task = library.task({"test": rows(range(9))}, pictures=pictures)
    with pytest.raises(DataError, match=f"test-0 of lmms:toy has {pictures} pictures"):
        task.samples(tmp_path, "search", Selection())
