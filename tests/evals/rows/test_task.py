"""How a file of one's own is asked, scored and summed up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allocator.core.errors import DataError, ReplyError
from allocator.core.plugins import available
from allocator.core.ports import CorpusTask, Selection
from evals.rows.choosing import longest_reply, words_of
from evals.rows.sets import Item
from tests.evals.own_files import Rows, lines, opened, rows, write

TEN = [*["red"] * 6, *["dark red"] * 3, "blue"]
SENTENCE = "a red ball lies on the green grass"


def own(folder: Path, entries: Rows, **wishes: Any) -> Any:
    return opened(write(folder, "samples.jsonl", lines(entries)), **wishes)


def without(column: str, **more: Any) -> Rows:
    return [{k: v for k, v in row.items() if k != column} for row in rows(**more)]


@pytest.mark.parametrize(
    ("entries", "metric", "why"),
    [
        (rows(), "exact", "the median answer has 2 words"),
        (rows(answer=TEN), "vqa", "ten answers to most"),
        (rows(answer=TEN[:9]), "exact", "1 word"),
        (rows(answer=SENTENCE), "f1", "the median answer has 8 words"),
        (rows(choices=["a", "b"], answer="A"), "choice", "there are choices"),
        (without("question", answer=SENTENCE), "cider", "no questions: captions"),
        (without("answer"), "agreement", "there are no answers"),
        (without("answer", choices=["a", "b"]), "agreement", "there are no answers"),
    ],
)
def test_the_metric_follows_from_the_data(
    entries: Rows, metric: str, why: str, tmp_path: Path
) -> None:
    summary = own(tmp_path, entries).summary
    assert (summary.metric, summary.why[-len(why) :]) == (metric, why)


def test_a_metric_that_is_given_is_taken(tmp_path: Path) -> None:
    for metric in ("contains", "anls", "relaxed", "f1", "cider", "agreement"):
        summary = own(tmp_path, rows(), metric=metric).summary
        assert (summary.metric, summary.why) == (metric, "as given")


def asked(folder: Path, entries: Rows, **wishes: Any) -> tuple[str, str]:
    task = own(folder, entries, **wishes)
    sample = task.samples(folder, "search", Selection())[0]
    return sample.prompt, sample.text


def test_each_kind_of_row_has_its_prompt(tmp_path: Path) -> None:
    questions = rows(question="what?")
    assert asked(tmp_path, questions) == ("vqa", "what?")
    assert asked(tmp_path, without("question")) == ("caption", "")
    assert asked(tmp_path, questions, metric="agreement") == ("vqa", "what?")
    # in the words for short answers, nobody would answer in sentences
    sentences = rows(question="what?", answer=SENTENCE)
    assert asked(tmp_path, sentences) == ("plain", "what?")
    kind, text = asked(tmp_path, rows(question="what?", choices=["a", "b"], answer="b"))
    assert kind == "plain"
    assert text.startswith("what?\nA. a\nB. b\n")


def test_replies_are_scored_by_the_metric(tmp_path: Path) -> None:
    task = own(tmp_path, rows())
    samples = task.samples(tmp_path, "evaluation", Selection())
    right = [sample.references[0] for sample in samples]
    assert task.score(right, samples).mean == 100
    # 15 of 30
    half = [*right[:15], *["nothing of the sort"] * 15]
    assert task.score(half, samples).mean == 50
    with pytest.raises(ReplyError):
        task.score(right[1:], samples)


def test_agreement_comes_without_references(tmp_path: Path) -> None:
    asked = own(tmp_path, rows(), metric="agreement")
    for task in (own(tmp_path, without("answer")), asked):
        assert task.own_references
        samples = task.samples(tmp_path, "evaluation", Selection())
        assert {sample.references for sample in samples} == {()}
        assert task.summary.words is None
    assert not own(tmp_path, rows()).own_references


def test_scores_of_parts_hang_on_the_whole_for_captions_alone(tmp_path: Path) -> None:
    captions = own(tmp_path, without("question"))
    assert isinstance(captions, CorpusTask)
    assert not isinstance(own(tmp_path, rows()), CorpusTask)
    samples = captions.samples(tmp_path, "evaluation", Selection())
    replies = [sample.references[0] for sample in samples]
    within = captions.within(samples)
    assert within.name == captions.name
    whole = captions.score(replies, samples).values
    assert within.score(replies[:5], samples[:5]).values == pytest.approx(whole[:5])


def test_another_metric_is_another_version(tmp_path: Path) -> None:
    lacking = ("choice", "vqa")
    metrics = [name for name in available("evals.metrics") if name not in lacking]
    versions = [own(tmp_path, rows(), metric=metric).version for metric in metrics]
    assert len(set(versions)) == len(metrics) > 5
    assert own(tmp_path, rows()).version == own(tmp_path, rows()[:50]).version
    assert min(versions) > 0


def test_the_summary_counts_words_and_says_how_sure_scores_will_be(
    tmp_path: Path,
) -> None:
    entries = rows()
    entries[3]["answer"] = ["one", "one two three four"]
    summary = own(tmp_path, entries).summary
    assert summary.source.endswith("samples.jsonl")
    assert summary.counts == {"calibration": 12, "search": 18, "evaluation": 30}
    assert summary.pictures == summary.counts
    assert summary.words == (2, 4)
    # of 30 values between 0 and 100, 1.96 standard errors
    assert summary.half_width == pytest.approx(17.892, abs=1e-3)
    told = " ".join(summary.sentences)
    assert "intervals reach at most 17.9 points either way" in told
    assert "30 samples to evaluate on are few: an interval is wide" in told


def test_a_summary_of_fewer_samples_has_wider_intervals(tmp_path: Path) -> None:
    task = own(tmp_path, rows())
    evaluated = task.samples(tmp_path, "evaluation", Selection(fraction=0.25))
    few = task.summary.of({"evaluation": evaluated})
    # a quarter of 30, and sqrt(30 / 8) times as wide
    assert few.counts == few.pictures == {"evaluation": 8}
    assert few.half_width == pytest.approx(17.892 * (30 / 8) ** 0.5, abs=1e-2)
    assert "calibrate" not in few.sentences[0]


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    summary = own(tmp_path, rows(gold="x", hint="y")).summary
    assert "not read: columns gold, hint" in summary.remarks


def test_captions_have_no_width_before_they_are_scored(tmp_path: Path) -> None:
    summary = own(tmp_path, without("question")).summary
    assert summary.half_width is None
    assert any("are few: an interval is wide" in each for each in summary.sentences)


def item(*answers: str) -> Item:
    return Item(1, "1", "?", answers)


@pytest.mark.parametrize(
    ("answer", "metric", "tokens"),
    [
        ("yes", "exact", 10),
        # 40 bytes
        ("x" * 40, "exact", 20),
        # 3 bytes a character
        ("答" * 20, "anls", 30),
        ("yes", "f1", 32),
        ("yes", "contains", 64),
        ("x" * 9999, "f1", 512),
        ("x" * 9999, "agreement", 32),
    ],
)
def test_replies_are_as_long_as_the_answers_need(
    answer: str, metric: str, tokens: int
) -> None:
    assert longest_reply([item("a"), item("b", answer)], metric) == tokens


def test_words_without_blanks_between_them_count_by_character() -> None:
    assert words_of([item("a red ball"), item("红色的球"), item("x")]) == (3, 4)
    assert words_of([item()]) is None


def test_samples_are_placed_in_their_file(tmp_path: Path) -> None:
    task = own(tmp_path, [{**row, "id": f"q{n}"} for n, row in enumerate(rows())])
    samples = task.samples(tmp_path, "search", Selection())
    for sample in samples:
        number = int(sample.id[1:]) + 1
        assert task.place(sample) == f"column 'image' in line {number} of samples.jsonl"


def test_impossible_selections_are_refused(tmp_path: Path) -> None:
    task = own(tmp_path, rows())
    for wrong in ({"fraction": 0.0}, {"fraction": 1.5}, {"subset": "test"}):
        with pytest.raises(DataError):
            task.samples(Path(), "evaluation", Selection(**wrong))
