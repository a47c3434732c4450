"""What cells mean: texts, answers, choices and the letters of right ones."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from evals.rows.files import Written, shown
from evals.rows.jsons import loaded

if TYPE_CHECKING:
    from collections.abc import Sequence

# keys under which data sets keep an answer within an object: VQA's and SQuAD's
KEYS = ("answer", "text")
# digits of the number of a choice
LONGEST_COUNT = 9
# a list as Python prints it, which is not how JSON writes it
PRINTED = re.compile(r"\[\s*['\"]")
# a letter as people write one: "B", "b", "B.", "(B)"
LETTER = re.compile(r"\(?([A-Za-z])[.):]?")
# a choice, or an answer, with its letter before it: "A. red", "(A) red"
MARKED = re.compile(r"\(?([A-Za-z])(?:[.:]\s+|\)\s*)(\S.*)", re.S)
MISSING: tuple[Any, ...] = (None, [], {})
# what programs write into cells of texts for nothing, and no person for an answer
NOTHING = ("NULL", "<NA>", "#N/A", "\\N")


@dataclass(frozen=True)
class Cell:
    """A cell with the place that sentences name.

    `texts` says that its file knows nothing but texts, which may be JSON themselves.
    """

    place: str
    value: Any
    texts: bool = False

    @property
    def missing(self) -> bool:
        """Whether there is nothing in it."""
        return self.value in MISSING

    def refused(self, why: str) -> DataError:
        """A sentence about it."""
        return DataError(f"{self.place} {why}")


def text_of(cell: Cell) -> str:
    """One text, or a number as it is written.

    Raises:
        DataError: it is something else, or blank.
    """
    return _text(cell, cell.value)


def answers_of(cell: Cell) -> tuple[str, ...]:
    """Answers: one text or number, a list of them, or of objects that hold one each.

    Those are {"answer": ...} and {"text": ...}, as in VQA and SQuAD. In a file of
    texts, a cell that is a list in JSON is that list.

    Raises:
        DataError: there is something else among them, or a blank one.
    """
    value = _unpacked(cell)
    if isinstance(value, dict):
        value = _within(cell, value)
    several = value if isinstance(value, list) else [value]
    if not several:
        raise cell.refused("has no answer")
    return tuple(
        _text(cell, _within(cell, each) if isinstance(each, dict) else each)
        for each in several
    )


def choices_of(cell: Cell) -> tuple[str, ...]:
    """Choices in the order of their letters: a list, or an object {"A": ...}.

    Raises:
        DataError: it is something else, or has fewer than two or more than 26, or they
            are lettered in another order.
    """
    value = _unpacked(cell)
    if isinstance(value, dict) and list(value) == list(ascii_uppercase[: len(value)]):
        value = list(value.values())
    if not isinstance(value, list):
        raise cell.refused(f"is {shown(value)}, not a list of choices")
    if not 2 <= len(value) <= len(ascii_uppercase):
        raise cell.refused(f"has {len(value)} choices: 2 to {len(ascii_uppercase)} are")
    return unmarked(cell, [_text(cell, each) for each in value])


def unmarked(cell: Cell, choices: Sequence[str]) -> tuple[str, ...]:
    """Choices without letters that stand before all of them, as they are shown so.

    Raises:
        DataError: the letters are in another order than A, B, C, ...
    """
    marks = [mark for each in choices if (mark := MARKED.fullmatch(each))]
    letters = "".join(mark[1].upper() for mark in marks)
    wanted = ascii_uppercase[: len(choices)]
    if not wanted or sorted(letters) != list(wanted):
        return tuple(choices)
    if letters != wanted:
        raise cell.refused(
            f"has choices that are lettered {', '.join(letters)}: write them in the "
            "order of their letters"
        )
    return tuple(mark[2] for mark in marks)


def letters_of(
    cell: Cell, answers: Sequence[str], choices: Sequence[str], counted: bool
) -> tuple[str, ...]:
    """Letters of the right choices, which a file gives as letters, texts or numbers.

    Args:
        cell: where they are from.
        answers: as `answers_of` has read them.
        choices: what there is to choose from.
        counted: whether numbers are known to count choices from 0.

    Raises:
        DataError: an answer is none of the choices, or can be two of them.
    """
    found = [_letter(cell, answer, choices, counted) for answer in answers]
    return tuple(dict.fromkeys(found))


def is_count(cell: Cell, answer: str) -> bool:
    """Whether an answer may be the number of a choice."""
    # no more digits than a number of a choice has, or may have in front
    if not answer.isdecimal() or len(answer) > LONGEST_COUNT:
        return False
    return cell.texts or isinstance(answer, Written)


def _letter(cell: Cell, answer: str, choices: Sequence[str], counted: bool) -> str:
    letters = ascii_uppercase[: len(choices)]
    meant = {letters[at] for at, each in enumerate(choices) if each == answer}
    if not meant:
        low = answer.casefold()
        same = (at for at, each in enumerate(choices) if each.casefold() == low)
        meant = {letters[at] for at in same}
    written = LETTER.fullmatch(answer)
    if written and written[1].upper() in letters:
        meant.add(written[1].upper())
    marked = MARKED.fullmatch(answer)
    if not meant and marked and marked[1].upper() in letters:
        letter = marked[1].upper()
        if choices[letters.index(letter)].casefold() == marked[2].casefold():
            meant.add(letter)
    if is_count(cell, answer):
        if not counted and not meant:
            raise cell.refused(
                f"is {answer}: no answer of the file is 0, so that numbers may count "
                "choices from 0 or from 1; write letters"
            )
        meant |= {letters[int(answer)]} if int(answer) < len(letters) else set()
    if len(meant) != 1:
        many = f"can be each of {', '.join(sorted(meant))}" if meant else "is none"
        raise cell.refused(f"is {shown(answer)}, which {many} of the choices")
    return meant.pop()


def _unpacked(cell: Cell) -> Any:
    """A cell's value; a list or an object in JSON, where files know only texts."""
    value = cell.value
    if not cell.texts or not isinstance(value, str):
        return value
    if value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return loaded(value)
    except ValueError:
        if PRINTED.match(value.lstrip()):
            raise cell.refused(
                f"is {shown(value)}, which is no list in JSON: write "
                '["one answer", "another"]'
            ) from None
        return value


def _within(cell: Cell, value: dict[str, Any]) -> Any:
    known = [key for key in KEYS if key in value]
    if len(known) != 1:
        raise cell.refused(
            f"has an object with {', '.join(map(repr, value)) or 'nothing'}: an answer "
            f"is a text, or stands under {' or '.join(map(repr, KEYS))}"
        )
    return value[known[0]]


def _text(cell: Cell, value: Any) -> str:
    if isinstance(value, str):
        text = value.strip()
        if not text:
            raise cell.refused("has a blank text")
        if "\ufffd" in text:
            raise cell.refused(
                "has the mark of a character that was lost (U+FFFD): make the file anew"
            )
        if cell.texts and (text.lower() == "nan" or text in NOTHING):
            raise cell.refused(f"is {text}, which stands for nothing: leave it empty")
        return type(value)(text)
    if isinstance(value, float) and math.isnan(value):
        raise cell.refused("is NaN, which is no text or number")
    if isinstance(value, bool):
        raise cell.refused(
            f'is {json.dumps(value)}: write the text that is meant, such as "yes"'
        )
    raise cell.refused(f"holds {shown(value)}, where a text is wanted")
