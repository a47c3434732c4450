"""What every metric in evals/metrics must do, found without being listed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import AllocateError, ReplyError
from allocator.core.plugins import available, load
from allocator.core.ports import CorpusTask, Sample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.own import Metric

EACH = pytest.mark.parametrize("name", available("evals.metrics"))
NONSENSE = "nothing of the sort"
ODD = (
    "",
    " \n\t",
    "...",
    "?!",
    "\u200f\u202b",
    "\u0301",
    "é",
    "e\u0301",
    "\u0663\u066b\u0665",
    "\uff11\uff12\u3000\uff05",
    "مرحبا بالعالم",
    "👩‍👧‍👦 🇪🇺",
    "\x00",
    "\ud800",
    "IV",
    "\u2163",
    "nan",
    "inf",
    "1e999",
    "-0",
    "one\ntwo\r\nthree",
    "(A) and (B)",
    "%",
    "[",
)


def metric(name: str) -> Metric:
    found: Metric = load("evals.metrics", name, "metric")
    return found


def samples(needs: str) -> tuple[Sample, ...]:
    """Some that have what a metric needs: each has answers in any case."""
    choices = ("red", "green", "blue") if needs == "choices" else ()
    answers = (
        [("B",), ("A", "C"), ("C",)]
        if choices
        else [
            ("2 dogs on bench",) * 10,
            ("red bus", *["bus in rain"] * 4, *["red bus"] * 4, "car"),
            (*["12.5 kg at 3 %"] * 9, "half"),
        ]
    )
    return tuple(
        Sample(str(n), Path(f"{n}.png"), "vqa", "What is it?", own, choices=choices)
        for n, own in enumerate(answers)
    )


def first(wanted: Sequence[Sample]) -> list[str]:
    return [sample.references[0] for sample in wanted]


@EACH
def test_what_it_is_is_stated(name: str) -> None:
    found = metric(name)
    assert found.unit.strip()
    assert found.version >= 1
    assert found.needs in {"answers", "choices", "nothing"}


@EACH
def test_the_first_references_together_get_the_best_score(name: str) -> None:
    found = metric(name)
    wanted = samples(found.needs)
    replies = first(wanted)
    best = found.score(replies, wanted).mean
    assert best > 0
    if "%" in found.unit:
        assert best == pytest.approx(100)
    for number in range(len(wanted)):
        for other in (NONSENSE, *ODD, replies[number - 1]):
            changed = [*replies[:number], other, *replies[number + 1 :]]
            assert found.score(changed, wanted).mean <= best + 1e-9


@EACH
@pytest.mark.parametrize("reply", ["", " \n", NONSENSE])
def test_replies_that_say_nothing_score_nothing(name: str, reply: str) -> None:
    found = metric(name)
    wanted = samples(found.needs)
    score = found.score([reply] * len(wanted), wanted)
    assert score.mean == 0
    assert score.values == (0,) * len(wanted)


@EACH
def test_the_order_of_the_samples_does_not_matter(name: str) -> None:
    found = metric(name)
    wanted = samples(found.needs)
    replies = [NONSENSE, *first(wanted)[1:]]
    forth = found.score(replies, wanted)
    back = found.score(replies[::-1], wanted[::-1])
    assert forth.mean == pytest.approx(back.mean)
    assert forth.values == pytest.approx(back.values[::-1])
    assert forth.mean == pytest.approx(sum(forth.values) / len(wanted))


@EACH
def test_a_part_of_a_set_scores_what_it_does_in_the_whole(name: str) -> None:
    found = metric(name)
    wanted = samples(found.needs)
    replies = first(wanted)
    part = found.within(wanted) if isinstance(found, CorpusTask) else found
    values = found.score(replies, wanted).values
    assert part.score(replies[1:], wanted[1:]).values == pytest.approx(values[1:])


@EACH
@pytest.mark.parametrize("reply", ODD)
def test_odd_replies_get_a_value_like_any_other(name: str, reply: str) -> None:
    found = metric(name)
    wanted = samples(found.needs)
    most = max(found.score(first(wanted), wanted).values)
    for value in found.score([reply] * len(wanted), wanted).values:
        assert 0 <= value <= most


@EACH
@pytest.mark.parametrize("change", [-1, 1])
def test_another_number_of_replies_than_samples_is_refused(
    name: str, change: int
) -> None:
    found = metric(name)
    wanted = samples(found.needs)
    replies = first(wanted)
    told = replies[:-1] if change < 0 else [*replies, "more"]
    for given, asked in ((told, wanted), ([], wanted), ([], ())):
        with pytest.raises(ReplyError):
            found.score(given, asked)


@EACH
def test_what_is_no_text_is_refused(name: str) -> None:
    found = metric(name)
    wanted = samples(found.needs)
    for wrong in (None, 3, ["a"], b"a"):
        with pytest.raises(ReplyError, match="sample 0"):
            found.score([wrong] * len(wanted), wanted)


@EACH
def test_samples_without_what_it_needs_are_refused(name: str) -> None:
    found = metric(name)
    bare = Sample("7", Path("7.png"), "vqa", "What is it?", ())
    with pytest.raises(AllocateError):
        found.score(["a reply"], [bare])
