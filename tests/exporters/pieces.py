"""The vocabulary of the random models as a sentencepiece file.

llama.cpp's converter knows a byte-level BPE by what it makes of a certain text, and no
small one; where `tokenizer.model` is there, it takes that. Bytes are its fallback.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# kinds of a piece, and of a model (sentencepiece_model.proto)
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
BPE = 2


def save_pieces(folder: Path) -> None:
    """Write tokenizer.model beside a random model's tokenizer.json.

    Its first 256 tokens are the bytes, in whatever order; the others keep their number.
    """
    described = json.loads((folder / "tokenizer.json").read_text())
    words = {number: word for word, number in described["model"]["vocab"].items()}
    special = {each["id"]: each["content"] for each in described["added_tokens"]}
    pieces = [_piece(f"<0x{n:02X}>", BYTE) for n in range(256)]
    for number in range(256, max(words | special) + 1):
        control = number in special
        word = special[number] if control else words[number]
        pieces.append(_piece(word, CONTROL if control else NORMAL, -float(number)))
    # sentencepiece wants a piece for what it does not know
    pieces.append(_piece("<unk>", UNKNOWN))
    trainer = (
        _number(3, BPE)
        + _number(4, len(pieces))
        + _number(35, 1)
        + _number(40, len(pieces) - 1)
        # no beginning, end or padding of its own
        + b"".join(_number(field, 2**64 - 1) for field in (41, 42, 43))
    )
    normalizer = _number(3, 0) + _number(4, 0)
    model = b"".join(_part(1, each) for each in pieces)
    model += _part(2, trainer) + _part(3, normalizer)
    (folder / "tokenizer.model").write_bytes(model)


def _piece(text: str, kind: int, score: float = 0.0) -> bytes:
    return (
        _part(1, text.encode()) + b"\x15" + struct.pack("<f", score) + _number(3, kind)
    )


def _part(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """A number as protocol buffers write it: seven bits a byte, the lowest first."""
    octets = []
    while value > 127:
        octets.append(value & 127 | 128)
        value >>= 7
    return bytes([*octets, value])
