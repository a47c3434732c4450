"""Replies of many kinds, made up the same way each time, to compare metrics by.

What other implementations make of them is in `tests/evals/data/metric_values.json`,
which `studies/tasks/metrics.py` made.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = (
    "red,blue,dark green,black and white,dog,two dogs,traffic light,stop sign,umbrella,"
    "bench,University of California,R. J. Reynolds,March 15 1997,St. Mary's Hospital,"
    "vice president,the manager,a balance sheet,Q1 report,Brand A,north-east,x-ray,"
    "don't walk,no,yes,left,playing tennis,baseball bat,teddy bear,fire hydrant,cat,"
    "category,car,cart,a,net sales,total,table 4,page 12,Saudi Arabia,South Korea,"
    "e-mail,Dr. Smith,Main Street,coffee mug,it is raining,skiing down the hill,zebra"
)
MORE = "left,right,now,there,today,maybe,here,near it"
NOT_ASCII = (
    "café,na\u00efve,\u5317\u4eac,\u9ed2\u3044\u72ac,stra\u00dfe,\uc11c\uc6b8,"
    "\u043a\u043e\u0448\u043a\u0430,\u0642\u0637\u0629,\u0e41\u0e21\u0e27,"
    "\U0001f431 cat"
)
THINGS, BESIDE, FOREIGN = (text.split(",") for text in (WORDS, MORE, NOT_ASCII))
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PER_KIND = 200


@dataclass(frozen=True)
class Case:
    """A reply of a kind to something with these answers, and choices if any."""

    kind: str
    reply: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()


def digest(cases: list[Case]) -> str:
    """Tells whether the same cases were made."""
    text = json.dumps([astuple(case) for case in cases])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def amount(rng: Random) -> str:
    """A number as it is printed."""
    return rng.choice(
        [
            str(rng.randint(1, 30)),
            str(rng.randint(31, 2030)),
            f"{rng.randint(1, 99)}.{rng.randint(1, 9)}",
            f"0.{rng.randint(10, 99)}",
            f"{rng.randint(2, 40)}00",
        ]
    )


def typo(rng: Random, text: str) -> str:
    """A text with a few letters changed."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(text) + 1)
        kept = rng.randint(0, 1)
        text = text[:at] + rng.choice(["", *LETTERS]) + text[at + kept :]
    return text


def scrambled(rng: Random, text: str) -> str:
    """Capitals where there were none."""
    return "".join(rng.choice([c.lower(), c.upper()]) for c in text)


def spaced(rng: Random, text: str) -> str:
    """More blanks, within and around."""
    blank = rng.choice(["  ", "\n", " \t ", "   "])
    return rng.choice(["", blank]) + text.replace(" ", blank) + rng.choice(["", blank])


KINDS: dict[str, Callable[[Random, str], str]] = {
    "the answer": lambda _, text: text,
    "capitals": scrambled,
    "blanks": spaced,
    "a final period": lambda _, text: f"{text}.",
    "another answer": lambda rng, _: rng.choice(THINGS),
    "typing errors": typo,
    "a word more": lambda rng, text: f"{text} {rng.choice(BESIDE)}",
    "a sentence": lambda rng, text: (
        f"{rng.choice(['I think it is', 'It says', 'This shows'])} {text}, "
        f"{rng.choice(BESIDE)}"
    ),
    "an article more": lambda rng, text: (
        f"{rng.choice(['a', 'an', 'the', 'The'])} {text}"
    ),
    "marks around": lambda rng, text: rng.choice(['"{}"', "{}!", "({})", "{},"]).format(
        text
    ),
    "part of a word": lambda rng, text: (
        rng.choice(["un", "s", ""]) + text + rng.choice(["s", "ing", "board"])
    ),
    "nothing": lambda rng, _: rng.choice(["", " ", "...", "\n", "?"]),
    "a long reply": lambda rng, text: " ".join(
        [*rng.choices(THINGS, k=rng.randint(5, 15)), text, *rng.choices(BESIDE, k=5)]
    ),
}
NUMBERS: dict[str, Callable[[Random, str], str]] = {
    "the number": lambda _, text: text,
    "another number": lambda rng, _: amount(rng),
    "about the number": lambda rng, text: (
        f"{float(text) * (1 + rng.uniform(-0.09, 0.09)):.4g}"
    ),
    "5 % off": lambda rng, text: f"{float(text) * rng.choice([0.95, 1.05]):.6f}".rstrip(
        "0"
    ).rstrip("."),
    "a decimal more": lambda _, text: text + ("0" if "." in text else ".0"),
    "its sign": lambda _, text: f"-{text}",
    "marks lost": lambda _, text: (
        text.replace(".", "") if "." in text else f"{text[:1]}.{text[1:] or '5'}"
    ),
    "a fraction": lambda rng, text: f"{text}/{rng.randint(2, 9)}",
    "percent": lambda rng, text: f"{text}{rng.choice(['%', ' %'])}",
    "a hundredth": lambda _, text: f"{float(text) / 100:.6g}",
    "a number in a sentence": lambda _, text: f"It is {text} in all",
}


def answers() -> list[Case]:
    """Short answers of words and of numbers, one to three for each reply."""
    rng = Random("answers")
    cases = []
    for kind, made in KINDS.items():
        for _ in range(PER_KIND):
            known = tuple(rng.sample(THINGS, rng.choice([1, 1, 2, 3])))
            cases.append(Case(kind, made(rng, rng.choice(known)), known))
    for kind, made in NUMBERS.items():
        for _ in range(PER_KIND):
            known = tuple(amount(rng) for _ in range(rng.choice([1, 1, 2])))
            cases.append(Case(kind, made(rng, rng.choice(known)), known))
    return cases + odd(rng)


def odd(rng: Random) -> list[Case]:
    """Percent for percent, thousands, zeros, signs, and texts that are not ASCII."""
    cases = []
    for _ in range(PER_KIND // 2):
        number = amount(rng)
        percent, share = f"{number}%", f"{float(number) / 100:.6g}"
        cases.append(Case("percent for a share", f"{number} %", (share,)))
        cases.append(Case("a share for percent", share, (percent,)))
        large = rng.randint(1000, 9_999_999)
        one, other = rng.sample([f"{large:,}", str(large)], 2)
        cases.append(Case("thousands", one, (other,)))
        cases.append(Case("zero", rng.choice(["0", "0.0", "0%", "1", "-0"]), ("0",)))
        cases.append(
            Case("negative", rng.choice([number, f"-{number}"]), (f"-{number}",))
        )
        text = rng.choice(FOREIGN)
        reply = rng.choice([text, text.upper(), rng.choice(FOREIGN), f"{text}."])
        cases.append(Case("other scripts", reply, (text,)))
        wide = "".join(chr(ord(c) + 0xFEE0) if c != " " else "\u3000" for c in number)
        cases.append(Case("full width", wide, (number,)))
        cases.append(Case("taken apart", "cafe\u0301", (rng.choice(["café", "cafe"]),)))
    return cases


def votes() -> list[Case]:
    """Two to twelve people's answers each."""
    rng = Random("votes")
    cases = []
    for kind in (
        "the answer",
        "capitals",
        "a final period",
        "marks around",
        "nothing",
        "an article more",
        "another answer",
        "blanks",
    ):
        for _ in range(2 * PER_KIND):
            pool = rng.sample(THINGS, 3)
            size = 10 if rng.random() < 0.5 else rng.randint(2, 12)
            known = tuple(rng.choices(pool, weights=(5, 3, 2), k=size))
            cases.append(Case(kind, KINDS[kind](rng, rng.choice(pool)), known))
    return cases


OPTIONS = {
    "words": ("red", "green", "blue", "dark red", "yellow", "white"),
    "phrases": (
        "a cat on a sofa",
        "a dog in the park",
        "two people at a table",
        "an empty street",
        "a bus in the rain",
    ),
    "numbers": ("3", "13", "3.5", "35", "30"),
    "roman": ("I", "II", "III", "IV", "V"),
    "yes or no": ("yes", "no"),
    "vitamins": ("vitamin D", "vitamin A", "vitamin C", "vitamin B"),
}
# {L}: a letter, {M}: another one, {T} and {U}: the texts of both
FORMS = {
    "a letter": ("{L}", "{L}.", "({L})", "{L}\n", " {L}", "{L},"),
    "a small letter": ("{l}", "({l})", "{l}."),
    "a letter in bold": ("**{L}**", "**{L}.** {T}"),
    "letter and text": ("{L}. {T}", "({L}) {T}", "{L}: {T}", "{L}) {T}", "{L}\n{T}"),
    "the answer is": (
        "Answer: {L}",
        "The answer is {L}.",
        "The correct answer is ({L}).",
    ),
    "the answer is, because": (
        "The answer is {L} because it is on the left side of the picture.",
        "The correct option is {L}, since nothing else is shown in it.",
    ),
    "a letter at the end": ("So it must be {L}", "I would say that it is {L}."),
    "the text": ("{T}", "{T}.", "{T}\n"),
    "the text in a sentence": (
        "It is {T}.",
        "The answer is {T}.",
        "I can see {T} here",
    ),
    "a long sentence with the text": (
        "Looking at the picture as a whole, there is nothing to be seen but {T}, which "
        "is what was asked for here.",
    ),
    "two letters": ("{L} or {M}", "{L} and {M}", "{L}, {M}", "({L}) and ({M})"),
    "two texts": ("{T} or {U}", "It is {T} and {U}."),
    "all letters": ("A B", "A. {T}\nB. {U}", "A, B"),
    "another mind": ("The answer is {M}. No, the answer is {L}.",),
    "a denial": ("It is not {L}.", "The answer is not {L}"),
    "an article": ("A man walks by", "A big house"),
    "a letter of a word": ("Dad", "BABA", "CAB", "Amazing"),
    "no choice": ("I do not know", "It is hard to tell from this", "something else"),
    "no such letter": ("Z", "Answer: Z", "(Z)"),
    "nothing": ("", "...", " ", "?"),
    "Chinese": ("\u7b54\u6848\u662f{L}", "\u9009{L}\u3002", "\u9009\u9879 {L}"),
    "full width": ("\uff08{L}\uff09", "{W}", "{L}\uff0e{T}"),
}


def choices() -> list[Case]:
    """Replies to multiple choice: what was meant, if anything, is the answer."""
    rng = Random("choices")
    cases = []
    for kind, forms in FORMS.items():
        for _ in range(PER_KIND):
            pool = OPTIONS[rng.choice(list(OPTIONS))]
            texts = tuple(rng.sample(pool, rng.randint(min(3, len(pool)), len(pool))))
            one, other = rng.sample(range(len(texts)), 2)
            letter = LETTERS[one].upper()
            reply = rng.choice(forms).format(
                L=letter,
                l=letter.lower(),
                M=LETTERS[other].upper(),
                W=chr(ord(letter) + 0xFEE0),
                T=texts[one],
                U=texts[other],
            )
            cases.append(Case(kind, reply, (letter,), texts))
    return cases
