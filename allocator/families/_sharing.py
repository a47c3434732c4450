"""One picture, several questions: it is decoded, processed and encoded once.

Where pictures are shared, a state holds each of them once, and says under `PICTURE`
which row is a sample's. A state without it has a picture for each sample, in order.
"""

from __future__ import annotations

from copy import copy
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from allocator.families._pixels import shown

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from allocator.core.ports import Sample, State

# of the state: the row of each sample's picture [batch]
PICTURE = "picture"
# of what a processor says of each picture, all that the language model reads
GRIDS = "image_grid_thw"
# what InternVL's processor counts its rows of pixels by, once more for each text
COUNTS = "num_patches"


def images_of(samples: Sequence[Sample], *, shared: bool) -> list[Any]:
    """The picture of each sample; shared, equal ones are one and the same object."""
    keys = [(sample.image, sample.upright) for sample in samples]
    firsts, rows = rows_of(keys if shared else range(len(keys)))
    found = [shown(keys[n][0], upright=keys[n][1]) for n in firsts]
    return [found[row] for row in rows]


def rows_of(things: Iterable[Hashable]) -> tuple[list[int], list[int]]:
    """Where each of several different things stands first, and which of them each is.

    >>> rows_of("abac")
    ([0, 1, 3], [0, 1, 0, 2])
    """
    known: dict[Hashable, int] = {}
    firsts: list[int] = []
    rows: list[int] = []
    for n, thing in enumerate(things):
        if thing not in known:
            known[thing] = len(firsts)
            firsts.append(n)
        rows.append(known[thing])
    return firsts, rows


def shown_once(images: Iterable[Any]) -> tuple[list[int], list[int]]:
    """As `rows_of`, for pictures: the same objects, each perhaps in a list of one."""
    single = (x[0] if isinstance(x, list | tuple) else x for x in images)
    return rows_of(map(id, single))


def share_(processor: Any) -> None:
    """Let a processor make pixels of one picture once, however many texts show it.

    It still writes into each text what stands for its picture there, and says which
    row that is.
    """
    usual = processor._process_images

    def process(images: Any, **settings: Any) -> Any:
        firsts, rows = shown_once(images)
        if len(firsts) == len(rows):
            return usual(images, **settings)
        processed, words = usual([images[n] for n in firsts], **settings)
        processed[PICTURE] = rows
        if COUNTS in processed:
            known = [int(count) for count in processed[COUNTS]]
            processed[COUNTS] = [
                known[row] if firsts[row] == n else 0 for n, row in enumerate(rows)
            ]
        return processed, [words[row] for row in rows]

    processor._process_images = process


def of_samples(state: State, image: int) -> State:
    """A state whose features are laid out by sample, though pictures are shared.

    Args:
        state: has run through the stages in front of the language model.
        image: the token that stands for a picture's features.
    """
    if PICTURE not in state:
        return state
    picture = state[PICTURE]
    found = {k: v for k, v in state.items() if k != PICTURE}
    if GRIDS in state:
        found[GRIDS] = state[GRIDS][picture]
    shown = (state["input_ids"] == image).sum(1)
    found["features"] = repeated(state["features"], picture.tolist(), shown.tolist())
    return found


def repeated(features: Any, picture: Sequence[int], shown: Sequence[int]) -> Any:
    """Features of shared pictures, once for each sample.

    Args:
        features: of transformers, in pieces (tiles, crops, or whole pictures).
        picture: the row of each sample's picture.
        shown: tokens that each sample's picture takes.

    Raises:
        ValueError: the prompts leave another number of image tokens than features;
            whoever runs this names the model.
    """
    lengths = dict(zip(picture, shown, strict=True))
    made = accumulate((len(piece) for piece in features.pooler_output), initial=0)
    begins = {tokens: n for n, tokens in enumerate(made)}
    wanted = [0, *accumulate(lengths[n] for n in range(len(lengths)))]
    if not begins.keys() >= set(wanted) or wanted[-1] != max(begins):
        raise ValueError(
            f"the prompts hold {wanted[-1]} image tokens for {max(begins)} image "
            "features: model and processor do not belong together"
        )
    pieces = [range(begins[at], begins[end]) for at, end in pairwise(wanted)]
    order = [n for row in picture for n in pieces[row]]
    found = copy(features)
    found.pooler_output = _picked(features.pooler_output, order)
    deep = features.get("deepstack_features")
    if deep is not None:
        found.deepstack_features = [_picked(layer, order) for layer in deep]
    return found


def _picked(pieces: Any, order: Sequence[int]) -> Any:
    """Some pieces, in an order: of a tensor its rows, or of a row of tensors."""
    if isinstance(pieces, list | tuple):
        return type(pieces)(pieces[n] for n in order)
    return pieces[order]
