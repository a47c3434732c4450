"""How a file is scored, and how long replies may be, by what it holds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING, Any

from allocator.core.errors import SpecError
from allocator.core.own import AGREEMENT
from allocator.core.plugins import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.own import Metric
    from evals.rows.sets import Item

# what VQA's people gave to each question
PEOPLE = 10
# of so few, VQA accuracy is never full
TOO_FEW = 3
# most words of a short answer, as the median has them
SHORT = 5
# what has no blanks between words counts by character: Han and kana
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")
# least tokens of a reply, so that a word or a sentence before an answer does not cut
# it off; all others ten, as the published tasks have them for answers of a few words
LEAST = {"choice": 32, "cider": 30, "f1": 32, "contains": 64, AGREEMENT: 32}
# most tokens of a reply, whatever one long answer says
MOST = 512
# a token of text is about 4 bytes, of numbers and of rare scripts 1 to 3
BYTES_A_TOKEN = 2


@dataclass(frozen=True)
class Chosen:
    """A metric by its name, and why it is that one."""

    name: str
    why: str
    metric: Metric


def chosen_metric(items: Sequence[Item], given: str | None, file: str) -> Chosen:
    """The metric that somebody gave, or the one that a file suggests.

    Choices are scored by `choice`, captions by `cider`, ten answers to most questions,
    and to none fewer than four, by `vqa`, none at all by `agreement`; answers of at
    most five words (the median of all) by `exact`, others by `f1`.

    Raises:
        UnknownNameError: there is no such metric.
        SpecError: it needs what the file does not have.
    """
    name, why = (given, "as given") if given else _suggested(items)
    metric: Any = load("evals.metrics", name, "metric")
    if metric.needs != "nothing":
        has = {
            "answers": all(item.answers for item in items),
            "choices": all(item.choices for item in items),
        }
        # choices are of no use where nobody says which is right
        lacking = [what for what in ("answers", metric.needs) if not has[what]]
        if lacking:
            raise SpecError(
                f"--metric {name} needs {lacking[0]}, and {file} has none: name their "
                f"column (--columns {lacking[0]}=COLUMN), or take --metric {AGREEMENT}"
            )
    return Chosen(name, why, metric)


def _suggested(items: Sequence[Item]) -> tuple[str, str]:
    typical, _ = words_of(items) or (0, 0)
    told = f"the median answer has {typical} word{'s' * (typical != 1)}"
    people = [len(item.answers) for item in items]
    usual = median_low(people)
    # the first that holds
    known = (
        (typical == 0, AGREEMENT, "there are no answers"),
        (all(item.choices for item in items), "choice", "there are choices"),
        (not any(item.text for item in items), "cider", "no questions: captions"),
        (min(people) > TOO_FEW and usual == PEOPLE, "vqa", "ten answers to most"),
        (typical <= SHORT, "exact", told),
        (True, "f1", told),
    )
    return next((name, why) for holds, name, why in known if holds)


def words_of(items: Sequence[Item]) -> tuple[int, int] | None:
    """Median and most words of an answer; None without answers."""
    answers = (answer for item in items for answer in item.answers)
    counts = [len(WORD.findall(answer)) for answer in answers]
    return (median_low(counts), max(counts)) if counts else None


def longest_reply(items: Sequence[Item], metric: str) -> int:
    """Most tokens of a reply: a token for every two bytes of the longest answer.

    That is about twice what English text takes, and enough for digits and scripts that
    a tokenizer cuts small. At least ten, more for metrics of longer replies (`LEAST`),
    and at most 512.
    """
    answers = (answer for item in items for answer in item.answers)
    longest = max((len(answer.encode()) for answer in answers), default=0)
    needed = 0 if metric == AGREEMENT else math.ceil(longest / BYTES_A_TOKEN)
    return min(MOST, max(LEAST.get(metric, 10), needed))
