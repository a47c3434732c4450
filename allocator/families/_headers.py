"""What a file of weights says that it holds: the header of a safetensors file.

It is read before anything else of a checkpoint, and may be anybody's: how long it is,
is looked at first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from allocator.core.bounded import check_safetensors, parse_json
from allocator.core.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

# endings of weights that only running them reads
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Stored(NamedTuple):
    """A tensor as a file has it: its type in safetensors' words, its shape."""

    type: str
    shape: tuple[int, ...]


def header_of(folder: Path, file: Path) -> dict[str, Stored]:
    """What a file says it holds.

    Raises:
        ModelError: it is missing, damaged, or may not be read.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise ModelError(
            f"{folder} lacks {file.name}: only safetensors weights are loaded"
            f"{_pickled(folder)}"
        )
    if not os.access(file, os.R_OK):
        raise ModelError(f"{file} may not be read: its permissions forbid it")
    try:
        check_safetensors(file)
        with safe_open(file, framework="numpy") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            return {
                name: Stored(part.get_dtype(), tuple(part.get_shape()))
                for name, part in slices.items()
            }
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            f"{file} is damaged or cut short ({error}): copy it again"
        ) from None


def _pickled(folder: Path) -> str:
    """What is said of weights that are pickled, and how they become others."""
    found = sorted(f.name for f in folder.iterdir() if f.suffix in PICKLED)
    if not found:
        return ""
    return (
        f", and {found[0]} is pickled, which may run code when it is read; where you "
        "trust who made it, convert it once: model = "
        f"AutoModelForImageTextToText.from_pretrained({str(folder)!r}, "
        "use_safetensors=False); model.save_pretrained(NEW_FOLDER), and copy its "
        "tokenizer and processor there"
    )


def bytes_of(file: Path) -> int:
    """Bytes of all tensors in a file.

    Raises:
        ModelError: it is damaged.
    """
    try:
        # eight bytes say how long the header is; tensors follow it without a gap
        length = check_safetensors(file)
        with file.open("rb") as opened:
            opened.seek(8)
            header = parse_json(opened.read(length).decode())
        header.pop("__metadata__", None)
        spans = (entry["data_offsets"] for entry in header.values())
        return sum(int(end) - int(start) for start, end in spans)
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ModelError(
            f"{file} is damaged or cut short ({error}): copy it again"
        ) from None
