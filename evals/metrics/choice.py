"""Multiple choice: the reply names the right choice, by its letter or its text.

Rules decide, as in MMBench's evaluation (Liu et al., arXiv 2307.06281; `can_infer` in
matching_util.py of https://github.com/open-compass/VLMEvalKit) and in MMMU's (Yue et
al., CVPR 2024; `parse_multi_choice_response` in https://github.com/MMMU-Benchmark/MMMU):
letters first, then texts. The first of these that says anything is taken:

1. the reply is a letter ("B", "(b)", "B."), or it is the text of a choice;
2. the last "answer is B", "Answer: B", "I choose B";
3. it begins with a letter that is set off ("B. red", "B) red", "B: red");
4. letters in brackets; then capital letters that stand alone, but not the article ("A
   dog") nor those in the text of a choice ("vitamin C");
5. texts of choices in it, word by word, the longer one where one is in another.

A letter or text that the reply says is not right ("not A", "B is wrong") is not named.
Several answers are alternatives, as in MMMU. A reply that names several choices is
right if all of them are answers; one that names nothing is wrong, where MMMU's
evaluation guesses and MMBench's asks a model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase
from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from evals.metrics._denied import without_denied, without_denied_words
from evals.metrics._scoring import PerReply
from evals.metrics._words import comparable, unified, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.own import Metric
    from allocator.core.ports import Sample

ARTICLES = frozenset(("a", "an", "the"))
# what a letter must not touch; letters of Chinese and the like may stand beside it
TOUCHING = r"A-Za-z0-9_\u00c0-\u024f'"
# words that follow a letter, where others follow an article or a pronoun
AFTER = "and|are|as|because|but|due|for|is|or|since|was|would"
NO_ARTICLE = rf"(?![ ](?!(?:{AFTER})\b)[^\W\d_]{{{{2,}}}})"
ALONE = (
    rf"(?<![{TOUCHING}°-])(?<!\w\.)(?<!\bnot )([{{letters}}])"
    rf"(?![{TOUCHING}+#-]|\.[{TOUCHING}]){NO_ARTICLE}"
)
ANSWER = (
    r"(?i:\banswers?|\bchoose|\bselect|\bpick|答案|选项?"
    r"|\b(?:option|choice)s?(?=\s(?:is|are)\b|\s?:))"
    r"(?i:\s(?:is|are|would be|should be|must be)|应?是|为)?\s?[:=]?\s?"
    r"(?i:(?:option|choice|letter)s?\s)?([(\[\"']*"
    rf"(?:[{{letters}}](?![{TOUCHING}+#]|\.[{TOUCHING}]){NO_ARTICLE}"
    r"|[{small}](?=[\])\"'.,;]|$))"
    rf"(?:[\])\"']*(?:\s?(?:,|/|&|\band\b|\bor\b))+\s?[(\[\"']*[{{letters}}](?![{TOUCHING}]))*)"
)
LEAD = (
    r"^[^\w\n]{{0,4}}(?:[(\[](?P<bracketed>[{letters}{small}])[)\]]"
    rf"|(?P<marked>[{{letters}}{{small}}])(?:[)\]]|[.:](?![{TOUCHING}])"
    r"|\s[-\u2013\u2014]\s|$))"
    r"(?!\s?(?:(?:and|or)\b|[/&]|,\s?[(\[]?[{letters}]\b))"
)


@dataclass(frozen=True)
class Patterns:
    """What the letters of so many choices look like in a text."""

    alone: re.Pattern[str]
    answer: re.Pattern[str]
    lead: re.Pattern[str]
    bracketed: re.Pattern[str]


@lru_cache(maxsize=len(ascii_uppercase))
def patterns(count: int) -> Patterns:
    """The patterns for a number of choices."""
    letters = ascii_uppercase[:count]
    small = letters.lower()
    return Patterns(
        re.compile(ALONE.format(letters=letters)),
        re.compile(ANSWER.format(letters=letters, small=small)),
        re.compile(LEAD.format(letters=letters, small=small), re.MULTILINE),
        re.compile(rf"[(\[]([{letters}{small}])[)\]]"),
    )


def choice(reply: str, sample: Sample) -> float:
    """100 if all choices that a reply names are right and there is one, else 0.

    Raises:
        DataError: the sample has no choices, or an answer is no letter of one.
    """
    letters = ascii_uppercase[: len(sample.choices)]
    right = {reference.strip().upper() for reference in sample.references}
    for answer in sorted(right):
        if len(answer) != 1 or answer not in letters:
            raise DataError(
                f"sample {sample.id} has the answer {answer!r}, which is no letter of "
                f"its {len(sample.choices)} choices"
            )
    found = named(reply, sample.choices)
    return 100.0 * (bool(found) and found <= right)


def named(reply: str, choices: Sequence[str]) -> frozenset[str]:
    """Letters of the choices that a reply names, by letter or text.

    >>> sorted(named("The answer is (B) because it barks.", ["a cat", "a dog"]))
    ['B']
    >>> sorted(named("A dog.", ["a cat", "a dog", "a bird"]))
    ['B']
    """
    lines = (" ".join(line.split()) for line in unified(reply).splitlines())
    text = "\n".join(filter(None, lines)).replace("*", "")
    known = patterns(len(choices))
    if alone := re.fullmatch(r"[^A-Za-z\d+#°]*([A-Za-z])[^A-Za-z\d+#°]*", text):
        letter = alone[1].upper()
        if letter in ascii_uppercase[: len(choices)]:
            return frozenset(letter)
    whole = comparable(text)
    same = [n for n, each in enumerate(choices) if comparable(each) == whole]
    if same:
        return _letters(same)
    text = without_denied(text, ascii_uppercase[: len(choices)])
    return (
        _answered(text, known)
        or _leading(text, known)
        or _alone(text, choices, known)
        or _letters(_texts(text, choices))
    )


def _letters(numbers: Sequence[int]) -> frozenset[str]:
    return frozenset(ascii_uppercase[number] for number in numbers)


def _answered(text: str, known: Patterns) -> frozenset[str]:
    """Letters that the last sentence of the kind "the answer is" names."""
    found = known.answer.findall(text)
    if not found:
        return frozenset()
    each = re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", found[-1])
    return frozenset(letter.upper() for letter in each)


def _leading(text: str, known: Patterns) -> frozenset[str]:
    """The letter a text begins with; those of all lines if it lists several."""
    found = [
        (m["bracketed"] or m["marked"], m.start()) for m in known.lead.finditer(text)
    ]
    if not found or found[0][1]:
        return frozenset()
    return frozenset(letter.upper() for letter, _ in found)


def _alone(text: str, choices: Sequence[str], known: Patterns) -> frozenset[str]:
    """Letters in brackets, or else capital ones that stand alone."""
    if found := known.bracketed.findall(text):
        return frozenset(letter.upper() for letter in found)
    for each in choices:
        if len(each.strip()) > 1 and known.alone.search(each):
            text = re.sub(re.escape(each.strip()), " ", text, flags=re.IGNORECASE)
    return frozenset(known.alone.findall(text))


def _texts(text: str, choices: Sequence[str]) -> list[int]:
    """Numbers of the choices whose words are in a text, not within longer ones."""
    rest, rows = _row(text), [_row(each) for each in choices]
    found = []
    for number in sorted(range(len(rows)), key=lambda n: -len(rows[n])):
        letter = choices[number].strip()
        if len(letter) == 1 and letter.isalpha():  # "I" may be a pronoun
            is_there = bool(re.search(ALONE.format(letters=letter), text))
        elif rows[number]:
            rest = without_denied_words(rest, rows[number])
            is_there = rows[number] in rest
        else:
            is_there = False
        if is_there:
            found.append(number)
            rest = rest.replace(rows[number], "\n\n")
    return found


def _row(text: str) -> str:
    """Words but for articles, with something around each that no word has."""
    each = words(text)
    kept = [word for word in each if word not in ARTICLES] or each
    return "".join(f"\n{word}\n" for word in kept)


PLUGIN: Metric = PerReply("multiple choice (%)", 1, choice, needs="choices")
