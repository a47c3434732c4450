"""Answers that a metric takes to the letter, and that may be meant otherwise."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evals.rows.sets import Item

TO_THE_LETTER = ("anls", "contains", "exact", "f1", "vqa")
# what programs make of whole numbers where a cell of the column is empty
WHOLE = re.compile(r"-?\d+\.0+")
TRUTHS = {"True", "False", "TRUE", "FALSE"}


def remarks_on_answers(items: Sequence[Item], metric: str) -> list[str]:
    """Sentences about answers that other replies may mean as well."""
    if metric not in TO_THE_LETTER:
        return []
    found = []
    texts = [answer for item in items for answer in item.answers]
    if texts and TRUTHS.issuperset(texts):
        found.append(
            "answers are True and False, as programs write yes and no: it is these "
            "words that are right"
        )
    if items[0].choices:
        found.append(
            f"answers are letters of choices: to {metric} the text of a choice is "
            "wrong, to --metric choice it is not"
        )
    whole = [text for text in texts if WHOLE.fullmatch(text)]
    if whole:
        found.append(
            f"{len(whole):,} answers are whole numbers with a point: {whole[0]} is "
            f"right for {metric}, and {whole[0].partition('.')[0]} is not"
        )
    return found
