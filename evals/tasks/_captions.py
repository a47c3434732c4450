"""Pictures and the captions that people wrote for them, from the official files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allocator.core.errors import DataError
from allocator.core.ports import Sample
from evals.tasks._official import by_id, existing, field, placed, read_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from allocator.core.ports import Split

# how Karpathy and Fei-Fei divide COCO and Flickr30k; "restval" of COCO is left unused
KARPATHY_PARTS: dict[Split, str] = {
    "calibration": "train",
    "search": "val",
    "evaluation": "test",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A photograph, by its official number or name, and its captions as written."""

    id: int | str
    image: Path
    captions: tuple[str, ...]

    def sample(self, prompt: str, source: str) -> Sample:
        """The sample to caption, or to match with its captions.

        Raises:
            DataError: the image is missing, or a caption is; names the file `source`.
        """
        if not self.captions or not all(text.strip() for text in self.captions):
            raise DataError(f"image {self.id} has an empty or no caption in {source}")
        image = existing(self.image, f"entry {self.id} of {source}")
        return Sample(str(self.id), image, prompt, "", self.captions, upright=False)


def read_karpathy(
    folder: Path, source: str, split: Split, name: Callable[[object], tuple[Any, Path]]
) -> list[Picture]:
    """Pictures of one split of a file `dataset_*.json`.

    Args:
        folder: where the file is expected.
        source: name of the file.
        split: which of the three sets.
        name: official name and place of a picture under the folder, from its entry.

    Raises:
        DataError: the file is missing or of another shape, a picture is in it twice, or
            the split has none.
    """
    rows: list[Any] = field(read_json(folder, source, _raw), "images", list, source)
    wanted = KARPATHY_PARTS[split]
    found = []
    for row in rows:
        texts: list[Any] = field(row, "sentences", list, source)
        if not all(isinstance(text, str) for text in texts):
            raise DataError(
                f"{source} is not in the official format: 'raw' of type str is missing"
            )
        if field(row, "split", str, source) == wanted:
            number, image = name(row)
            found.append(
                Picture(number, placed(folder, str(image), source), tuple(texts))
            )
    if not found:
        raise DataError(f"{source} in {folder} has no images of split {wanted!r}")
    return list(by_id(found, source).values())


def _raw(entry: dict[str, Any]) -> Any:
    """Keep of a sentence its text alone: its words are most of a file."""
    text = entry.get("raw")
    return text if isinstance(text, str) else entry
