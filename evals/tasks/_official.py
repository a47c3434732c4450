"""What the tasks share: official files read with care, and seeded choices from them."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from allocator.core.bounded import BoundError, leaves, parse_json, read_text
from allocator.core.errors import DataError, ReplyError
from allocator.core.ports import Score
from allocator.core.study import CALIBRATION_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from allocator.core.ports import Sample, Selection, Split

SEARCH_SIZE = 1000
# bytes of an official file; those of GQA and VQAv2 have up to half a gigabyte
LARGEST = 3 * 2**28
# most samples of each split; evaluation is a published set as it is
SIZES: dict[Split, int | None] = {
    "calibration": CALIBRATION_SIZE,
    "search": SEARCH_SIZE,
    "evaluation": None,
}

T = TypeVar("T")


class Item(Protocol):
    """A question or a picture, by its official number or name."""

    @property
    def id(self) -> Any:
        """Official name of the item."""


class Question(Item, Protocol):
    """Something asked about an image."""

    @property
    def image(self) -> Any:
        """Official name of the image."""


I = TypeVar("I", bound=Item)  # noqa: E741
Q = TypeVar("Q", bound=Question)


def home(data: Path, name: str) -> Path:
    """A task's own folder in a data folder of several tasks, or that folder itself."""
    own = data / name
    return own if own.is_dir() else data


def has(folder: Path, name: str) -> bool:
    """Whether a folder has a file that need not be there.

    A link that leads nowhere counts: reading it is refused, and never passed over.
    """
    return os.path.lexists(folder / name)


def read_json(
    folder: Path, name: str, keep: Callable[[dict[str, Any]], Any] | None = None
) -> object:
    """Read a JSON file.

    Args:
        folder: where the file is expected.
        name: its name or path under the folder.
        keep: turns each object into what is kept of it, inner objects first: some
            official files would take gigabytes.

    Raises:
        DataError: the file is missing, unreadable or not JSON.
    """
    text = _text(folder, name)
    try:
        # what is kept of each object, and not the text, decides what it takes
        return json.loads(text, object_hook=keep) if keep else parse_json(text)
    except BoundError as error:
        raise DataError(f"{name} in {folder} is no official file: {error}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{name} in {folder} is not a JSON file") from None


def read_json_lines(folder: Path, name: str) -> list[object]:
    """Read a file of one JSON value a line.

    Raises:
        DataError: the file is missing or unreadable, or a line is not JSON; names it.
    """
    rows: list[object] = []
    for number, line in enumerate(_text(folder, name).split("\n"), 1):
        try:
            rows += [parse_json(line)] if line.strip() else []
        except ValueError:
            raise DataError(
                f"{name} in {folder} is not a file of JSON lines: see line {number}"
            ) from None
    return rows


def _text(folder: Path, name: str) -> str:
    try:
        return read_text(folder / name, LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{name} is missing: expected in the folder {folder}") from None
    except OSError as error:
        raise DataError(f"{name} in {folder} is unreadable: {error.strerror}") from None
    except BoundError as error:
        raise DataError(f"{name} in {folder} is no official file: {error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{name} in {folder} is not a JSON file") from None


def field(row: object, key: str, kind: type[T], source: str) -> T:
    """A value of an object in a file.

    Raises:
        DataError: `row` is not an object with a value of that kind; names the file.
    """
    value = row.get(key) if isinstance(row, dict) else None
    # JSON has truth values of their own, which are whole numbers to Python
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(
            f"{source} is not in the official format: {key!r} of type "
            f"{kind.__name__} is missing"
        )
    return value


def by_id(items: Iterable[I], source: str) -> dict[Any, I]:
    """Items by their names, which have to differ.

    Raises:
        DataError: two items have the same name; names the file.
    """
    found: dict[Any, I] = {}
    for item in items:
        if item.id in found:
            raise DataError(f"{source} has two entries of the same id {item.id!r}")
        found[item.id] = item
    return found


def placed(folder: Path, name: str, source: str) -> Path:
    """The place of a picture that an official file names.

    Raises:
        DataError: it is outside the folder; names the file.
    """
    if leaves(name):
        raise DataError(f"{source} names the picture {name!r}, outside its folder")
    return folder / name


def existing(image: Path, owner: str) -> Path:
    """The file of an image.

    Raises:
        DataError: there is no such file; names what it is needed for.
    """
    if not os.path.isfile(image):  # unlike `Path`, it refuses no name
        raise DataError(f"the image of {owner} is missing: expected {str(image)!r}")
    return image


def check_selection(selection: Selection, task: str, subsets: Sequence[str]) -> None:
    """Make sure that a selection can be met.

    Raises:
        DataError: the task has no subset of that name, or the fraction is not a share.
    """
    if selection.subset is not None and selection.subset not in subsets:
        raise DataError(
            f"{task} has no subset {selection.subset!r} (known: {', '.join(subsets)})"
        )
    if selection.fraction is not None and not 0 < selection.fraction <= 1:
        raise DataError(
            f"the fraction of {task} must be above 0 and at most 1, "
            f"got {selection.fraction}"
        )


def rank(seed: int, name: object) -> bytes:
    """A key whose order is random; unlike a shuffle, more images keep the order."""
    text = f"{seed}:{name}".encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=8).digest()


def shuffled(items: Iterable[I], seed: int) -> list[I]:
    """Items in the order of the seed: any prefix is a fair sample."""
    return sorted(items, key=lambda item: rank(seed, item.id))


def portion(total: int, fraction: float) -> int:
    """How many of a number of things a share of them is: at least one."""
    return max(1, round(total * fraction))


def share(items: Sequence[I], selection: Selection) -> list[I]:
    """As many items as the fraction asks for (all for None), in their order."""
    if selection.fraction is None:
        return list(items)
    size = portion(len(items), selection.fraction)
    kept = {item.id for item in shuffled(items, selection.seed)[:size]}
    return [item for item in items if item.id in kept]


def one_per_image(questions: Iterable[Q], seed: int, size: int) -> list[Q]:
    """A question on each of some images, both in the order of the seed."""
    by_image: dict[Any, list[Q]] = {}
    for question in questions:
        by_image.setdefault(question.image, []).append(question)
    images = sorted(by_image, key=lambda image: rank(seed, image))[:size]
    return [
        min(by_image[image], key=lambda each: rank(seed, each.id)) for image in images
    ]


def listed(
    folder: Path, name: str, split: Split, items: Mapping[Any, I], source: str
) -> list[I]:
    """Items that a file {"search": [ids], "evaluation": [ids]} lists for a split.

    Raises:
        DataError: the file is malformed, or lists an id twice or one that `source`
            does not have.
    """
    wanted: list[Any] = field(read_json(folder, name), split, list, name)
    for number in wanted:
        if type(number) is not int or number not in items:
            raise DataError(
                f"{name} in {folder} lists {number!r} for {split}, which is not the "
                f"id of anything in {source}"
            )
    if len(set(wanted)) < len(wanted):
        raise DataError(f"{name} in {folder} lists an id for {split} twice")
    return [items[number] for number in wanted]


def check_paired(
    predictions: Sequence[Any], samples: Sequence[Sample], kind: type, noun: str
) -> None:
    """Make sure that there is one prediction of a kind for each sample.

    Raises:
        ReplyError: another number of predictions, none at all, or another kind.
    """
    if len(predictions) != len(samples) or not samples:
        raise ReplyError(
            f"got {len(predictions)} {noun} for {len(samples)} samples; "
            "each sample needs exactly one"
        )
    for prediction, sample in zip(predictions, samples, strict=True):
        if not isinstance(prediction, kind):
            raise ReplyError(
                f"got {type(prediction).__name__} for sample {sample.id}, where {noun} "
                "are scored"
            )


def score_replies(
    replies: Sequence[Any],
    samples: Sequence[Sample],
    accuracy: Callable[[str, tuple[str, ...]], float],
) -> Score:
    """Score each reply against the references of its sample.

    Raises:
        ReplyError: not one text per sample, or none at all.
    """
    check_paired(replies, samples, str, "replies")
    values = tuple(
        accuracy(reply, sample.references)
        for reply, sample in zip(replies, samples, strict=True)
    )
    return Score(mean=sum(values) / len(values), values=values)
