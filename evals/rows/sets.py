"""Which samples calibrate, guide the search and evaluate: by picture, or as said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.core.errors import DataError
from allocator.core.ports import SPLITS
from allocator.core.study import CALIBRATION_SIZE
from evals.tasks._official import SEARCH_SIZE, portion, rank, shuffled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allocator.core.ports import Split
    from evals.rows.files import Table

# shares of the pictures; the rest evaluates
CALIBRATING, GUIDING = 0.2, 0.3
FEWEST = 40


@dataclass(frozen=True, slots=True)
class Item:
    """A row as it is meant: a question about a picture, which `image` names by content.

    `number` is the row's; `split` is the set that the file puts it into, if it does;
    `letters` are its choices.
    """

    number: int
    id: str
    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    split: Split | None = None
    image: str = ""
    file: Path = Path()


Sets = dict["Split", list[Item]]


def check_count(table: Table) -> None:
    """Refuse a file of too few samples.

    Raises:
        DataError: fewer than 40.
    """
    if len(table.rows) < FEWEST:
        raise DataError(
            f"{table.file.name} has {len(table.rows)} samples: to calibrate, search "
            f"and evaluate takes {FEWEST} at least, and some hundreds to tell scores "
            "apart"
        )


def as_said(items: Sequence[Item], name: str) -> Sets:
    """The sets that a file puts its rows into.

    Raises:
        DataError: one of them is empty.
    """
    sets: Sets = {split: [] for split in SPLITS}
    for item in items:
        if item.split is not None:
            sets[item.split].append(item)
    for split, own in sets.items():
        if not own:
            raise DataError(
                f"no row of {name} is in the set {split!r}: there are to be some of "
                f"{', '.join(SPLITS)}, or no column of sets"
            )
    return sets


def shared_picture(sets: Mapping[Split, Sequence[Item]]) -> tuple[Item, Item] | None:
    """The first two items, by their rows, of one picture in two sets; None: no two."""
    placed = [(item, split) for split, items in sets.items() for item in items]
    placed.sort(key=lambda each: each[0].number)
    seen: dict[str, tuple[Item, Split]] = {}
    for item, split in placed:
        first, own = seen.setdefault(item.image, (item, split))
        if own != split:
            return first, item
    return None


def divided(items: Sequence[Item], seed: int, name: str) -> Sets:
    """Sets by the content of pictures, so that no picture is in two of them.

    20 % of the pictures calibrate, at most 128; 30 % guide the search, as far as they
    have no more than 1,000 samples; the rest evaluates.

    Raises:
        DataError: fewer than three different pictures.
    """
    by_image: dict[str, list[Item]] = {}
    for item in items:
        by_image.setdefault(item.image, []).append(item)
    images = sorted(by_image, key=lambda image: rank(seed, image))
    if len(images) < len(SPLITS):
        raise DataError(
            f"{name} has {len(images)} different pictures: no picture may be in two of "
            f"the sets {', '.join(SPLITS)}"
        )
    left = iter(images)
    n_calibrating = min(CALIBRATION_SIZE, portion(len(images), CALIBRATING))
    calibration = [i for _ in range(n_calibrating) for i in by_image[next(left)]]
    search: list[Item] = []
    evaluation: list[Item] = []
    for place in range(len(images) - n_calibrating):
        own = by_image[next(left)]
        guides = place < portion(len(images), GUIDING) and not evaluation
        fits = not search or len(search) + len(own) <= SEARCH_SIZE
        (search if guides and fits else evaluation).extend(own)
    return {
        "calibration": calibration,
        "search": shuffled(search, seed)[:SEARCH_SIZE],
        "evaluation": evaluation,
    }
