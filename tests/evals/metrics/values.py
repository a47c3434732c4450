"""What other implementations make of the same replies; where ours differ, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allocator.core.plugins import load
from allocator.core.ports import Sample
from evals.metrics.choice import named
from tests.evals.metrics import cases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.evals.metrics.cases import Case

# a percentage, or letters of choices
Value = float | str
VALUES = Path(__file__).parents[1] / "data/metric_values.json"
MADE = {"answers": cases.answers, "votes": cases.votes, "choices": cases.choices}
# which cases a metric is shown, if not answers
SHOWN = {"vqa": "votes", "choice": "choices"}

WRITTEN = ("full width", "taken apart", "other scripts")
UNICODE = {"what Unicode writes in several ways is one here": WRITTEN}
LONGER = {
    **dict.fromkeys(UNICODE, WRITTEN[:2]),
    "there a length is that in capitals, two for 'ß'": WRITTEN[2:],
}
SIGNS = ("its sign", "marks lost", "a hundredth", "negative", "zero")
KEPT = "-5 is not 5 here, and 3.5 not 35"
RELAXED = {
    "blanks and a final period do not matter here": (
        "a final period",
        "blanks",
    ),
    "numbers have commas between thousands here": ("thousands",),
    "0.0 is 0 here": ("zero",),
    "5 % are 5 % here, however a computer rounds": ("5 % off",),
    **UNICODE,
}
NAMED = "there one of two is taken, here both are named"
SMALL = {"a small letter is a letter here": ("a small letter",)}
WIDE = {"full-width forms are letters here": ("full width",)}
ARTICLE = {"the article is no letter here": ("an article",)}
DENIED = {"what is denied is not named here": ("a denial",)}
SEVERAL = ("two letters", "two texts", "all letters")
# by metric and function: why, and for which kinds of replies
DIFFERENCES: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("anls", "anls 0.0.2, 0.5 counted"): LONGER,
    ("anls", "anls-star 1.0.1"): dict.fromkeys(UNICODE, WRITTEN[:2]),
    ("anls", "lmms-eval 0.7.3: anls"): LONGER,
    ("anls", "ms-vlmeval 0.0.20: anls"): LONGER,
    ("choice", "lmms-eval 0.7.3: mmmu"): {
        "there only ' B ' and '(B)' are letters, and else it guesses": (
            "a letter",
            "a letter in bold",
            "letter and text",
            "the answer is, because",
            "Chinese",
        ),
        "there texts are looked for in long replies only": (
            "the text",
            "the text in a sentence",
        ),
        "there 'red' is in 'dark red', and the last text is taken": (
            "a long sentence with the text",
        ),
        "there a word may end in a letter or hold a text": (
            "a letter of a word",
            "no choice",
        ),
        NAMED: SEVERAL,
        **SMALL,
        **WIDE,
        **ARTICLE,
        **DENIED,
    },
    ("choice", "lmms-eval 0.7.3: extract_mcq_answer"): {
        "there texts are not looked for": (
            "the text",
            "the text in a sentence",
            "a long sentence with the text",
        ),
        "there a letter that ends a reply counts, 'vitamin D' too": (
            "a letter in bold",
            "letter and text",
        ),
        "there any letter will do in the end": ("a letter of a word", "no such letter"),
        NAMED: SEVERAL,
        **SMALL,
        **WIDE,
        **ARTICLE,
        **DENIED,
    },
    ("choice", "ms-vlmeval 0.0.20: can_infer"): {
        "there a letter stands among the last five words": ("the answer is, because",),
        "there 'red' is in 'dark red', and replies must be short": (
            "the text",
            "the text in a sentence",
            "a long sentence with the text",
        ),
        "there a text may be part of a word": ("a letter of a word", "no choice"),
        "there two letters are none, though the last was decided on": ("another mind",),
        "there a letter needs blanks around it": ("Chinese",),
        "there two are none, here both are named": SEVERAL,
        **SMALL,
        **WIDE,
        **ARTICLE,
        **DENIED,
    },
    ("contains", "lmms-eval 0.7.3: ocrbench"): {
        "letters within a word or number are not contained here": (
            "another answer",
            "typing errors",
            "part of a word",
            "another number",
            "about the number",
            "5 % off",
            "a decimal more",
            "its sign",
            "marks lost",
            "a fraction",
            "percent",
            "a hundredth",
            "zero",
            "percent for a share",
        ),
        "the number of blanks does not matter here": ("blanks",),
        **dict.fromkeys(UNICODE, WRITTEN[1:]),
    },
    ("exact", "lmms-eval 0.7.3: exact_match of gqa"): {
        "marks are compared here": ("marks around", "percent", "a share for percent"),
        KEPT: SIGNS,
        "1,000 is not 1000 here": ("thousands",),
        "blanks do not matter here": ("blanks",),
        **UNICODE,
    },
    ("exact", "ms-vlmeval 0.0.20: accuracy"): {
        "a final period does not matter here": ("a final period",),
        "the number of blanks does not matter here": ("blanks",),
        **UNICODE,
    },
    ("exact", "torchmetrics 1.9.0: SQuAD exact match"): {
        "articles are compared here": ("an article more", "nothing"),
        "marks are compared here": (
            "marks around",
            "percent",
            "percent for a share",
            "a share for percent",
        ),
        KEPT: SIGNS,
        "1,000 is not 1000 here": ("thousands",),
        **UNICODE,
    },
    ("f1", "torchmetrics 1.9.0: SQuAD F1"): {
        KEPT: (*SIGNS, "percent for a share", "a share for percent"),
        "the answer 'a' is one here, and no reply is not it": (
            "an article more",
            "marks around",
            "nothing",
        ),
        **dict.fromkeys(UNICODE, WRITTEN[:2]),
    },
    ("f1", "scikit-learn 1.9.1: f1_score of our tokens"): {
        "the answer 'a', which has no tokens, is one here": (
            "the answer",
            "capitals",
            "blanks",
            "a final period",
        ),
    },
    ("relaxed", "lmms-eval 0.7.3: chartqa"): RELAXED,
    ("relaxed", "ms-vlmeval 0.0.20: relaxed_accuracy"): RELAXED,
    ("vqa", "lmms-eval 0.7.3: vqav2"): {
        "the answer 'a' is one here, and no reply is not it": (
            "an article more",
            "marks around",
            "nothing",
        ),
    },
}


def shown_to(metric: str) -> list[Case]:
    """The cases a metric is compared on."""
    return MADE[SHOWN.get(metric, "answers")]()


def ours(metric: str, shown: Sequence[Case]) -> list[Value]:
    """What we make of replies: percent, or the letters they name."""
    if metric == "choice":
        return ["".join(sorted(named(case.reply, case.choices))) for case in shown]
    samples = [
        Sample(str(n), Path("1.png"), "vqa", "", case.answers)
        for n, case in enumerate(shown)
    ]
    found = load("evals.metrics", metric).score([case.reply for case in shown], samples)
    return list(found.values)


def alike(one: Value, other: Value) -> bool:
    """Whether two values are the same, percentages to 0.01."""
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return abs(one - other) <= 0.0101


def packed(values: Sequence[Value]) -> str:
    """Values as a short text."""
    if all(isinstance(value, str) for value in values):
        return ",".join(map(str, values))
    if set(values) <= {0.0, 100.0}:
        return "".join("1" if value else "0" for value in values)
    return " ".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in values)


def unpacked(text: str) -> list[Value]:
    """Values as they were packed."""
    if set(text) <= {"0", "1"}:
        return [100.0 * int(each) for each in text]
    if " " in text:
        return [float(each) for each in text.split(" ")]
    return list(text.split(","))
