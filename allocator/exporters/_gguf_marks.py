"""Marks: weights that say which linear, row and column they stand for.

llama.cpp's converter renames tensors, splits them and moves their rows. A weight that
is to have codes goes through it as marks, and what comes out says where each row went:
whatever the converter does, and for every kind of model. Marks are integers below 128,
which all types of 16 bits hold: the first three columns give the number of the linear,
the next three that of the row, the others count themselves in pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allocator.core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

DIGIT = 128
PLACES = (1, DIGIT, DIGIT**2)
HEAD = 2 * len(PLACES)
# rows that are looked at in one go
CHUNK = 4096


def marks(number: int, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Marks in place of the weight [out, in] of a linear with some number."""
    rows, columns = shape
    made = torch.from_numpy(_counted(columns)).expand(rows, columns).to(dtype)
    row = torch.arange(rows)
    for column, place in enumerate(PLACES):
        made[:, column] = number // place % DIGIT
        made[:, len(PLACES) + column] = (row // place % DIGIT).to(dtype)
    return made


def read_marks(weight: np.ndarray[Any, Any]) -> tuple[int, np.ndarray[Any, Any]] | None:
    """Number of the linear, and of its row for each row [n]; None: no marks.

    Args:
        weight: [rows, columns] float16, or bfloat16 as pairs of bytes (uint8).

    Raises:
        ModelError: some rows are marks and others are not, or of several linears.
    """
    columns = weight.shape[1] // (2 if weight.dtype == np.uint8 else 1)
    if columns <= HEAD or not _intact(_floats(weight[:1]), columns)[0]:
        return None
    numbers, rows = [], []
    for at in range(0, len(weight), CHUNK):
        values = _floats(weight[at : at + CHUNK])
        if not _intact(values, columns).all():
            raise ModelError(
                "llama.cpp's converter changes some rows of a weight otherwise than by "
                "moving them, so that codes cannot follow"
            )
        digits = values[:, :HEAD].astype(np.int64).reshape(-1, 2, len(PLACES))
        number, row = (digits @ np.array(PLACES)).T
        numbers.append(number)
        rows.append(row)
    found = np.unique(np.concatenate(numbers))
    if len(found) > 1:
        raise ModelError(
            "llama.cpp's converter puts several linears into one tensor, which has one "
            "type"
        )
    return int(found[0]), np.concatenate(rows)


def _counted(columns: int) -> np.ndarray[Any, Any]:
    """What stands in columns: two of them count a pair."""
    column = np.arange(columns)
    pair = column // 2
    return np.where(column % 2 == 0, pair % DIGIT, pair // DIGIT % DIGIT)


def _intact(values: np.ndarray[Any, Any], columns: int) -> np.ndarray[Any, Any]:
    """Which rows of values [n, columns] are marks."""
    equal = values[:, HEAD:] == _counted(columns)[HEAD:]
    return np.asarray(equal.all(1))


def _floats(weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows of 16-bit numbers as float32."""
    if weight.dtype != np.uint8:
        return weight.astype(np.float32)
    halves = np.ascontiguousarray(weight).view(np.uint16)
    return (halves.astype(np.uint32) << 16).view(np.float32)
