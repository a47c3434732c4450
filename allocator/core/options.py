"""Options as files and callers give them: read from TOML, and of the right types."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

from allocator.core.bounded import DEEP, read_text
from allocator.core.errors import SpecError
from allocator.core.pins import KINDS as PINS
from allocator.core.text import is_count

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# bytes of a file of options
LARGEST = 2**20
# options by what their values are; the others are text
LISTS = ("methods", "widths", "include", "candidates", "columns", *PINS)
SWITCHES = (
    *("symmetric", "front", "rungs", "narrowing", "finalize", "refine", "race"),
    *("tune", "minimize", "force", "skip_broken"),
)
NUMBERS = ("seconds", "fraction", "min_score", "confidence", "storage_timeout")
COUNTS = (
    "at_once",
    *("trials", "trial", "seed", "calibration", "beams", "rerank", "tune_steps"),
    "max_new_tokens",
)
KINDS = {
    **dict.fromkeys(LISTS, "a list of names"),
    "widths": "a list of whole numbers",
    **dict.fromkeys(PINS, 'a list of texts such as "vision.*=8"'),
    **dict.fromkeys(SWITCHES, "true or false"),
    **dict.fromkeys(NUMBERS, "a number"),
    **dict.fromkeys(COUNTS, "a whole number"),
    "group_size": "a whole number or a name",
}


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What is given of options in Python, as the commands take it."""
    given = {key: _plain(v) for key, v in options.items() if v is not None}
    for key in ("methods", "widths", "include", "columns", *PINS):
        # as on the command line: gptq,awq and 3,4,8
        if isinstance(given.get(key), str):
            words = [word.strip() for word in given[key].split(",")]
            digits = key == "widths" and all(map(is_count, words))
            given[key] = [int(word) for word in words] if digits else words
    files = given.get("candidates", ())
    if files:
        one = isinstance(files, str)
        given["candidates"] = [files] if one else [os.fspath(file) for file in files]
    for key, between in (("task", "+"), ("bits", ",")):
        if isinstance(given.get(key), list | tuple):
            given[key] = between.join(map(str, given[key]))
    return given


def _plain(value: Any) -> Any:
    """A value as the command line would have it.

    Folders are names, numpy's numbers are numbers, {"question": "prompt"} is
    question=prompt.
    """
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return [f"{key}={each}" for key, each in value.items()]
    return value.tolist() if hasattr(value, "tolist") else value


def typed_options(
    values: Mapping[str, Any], file: Path | None = None
) -> dict[str, Any]:
    """Values as the fields want them: lists as tuples, the budget as text.

    Raises:
        SpecError: a value has another type than its option needs.
    """
    typed = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    typed = {key: value for key, value in typed.items() if value is not None}
    for key in ("budget", "cache_memory", "memory"):
        if key in typed:
            typed[key] = str(typed[key])
    for key, value in typed.items():
        if not _is_right(key, value):
            where = "" if file is None else f"{file}: "
            raise SpecError(
                f"{where}{key} = {value!r} is of the wrong type: it is "
                f"{KINDS.get(key, 'text')}"
            )
    return {"budget": None, **typed}


def _is_right(key: str, value: Any) -> bool:
    """Whether a value read from a file has the type its option needs."""
    if key in LISTS:
        kind = int if key == "widths" else str
        return isinstance(value, tuple) and all(isinstance(v, kind) for v in value)
    if key in SWITCHES:
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    kinds = dict.fromkeys(NUMBERS, int | float) | dict.fromkeys(COUNTS, int)
    return isinstance(value, kinds.get(key, int | str if key == "group_size" else str))


def read_toml(file: Path) -> dict[str, Any]:
    """Options written down as TOML.

    Raises:
        SpecError: the file is missing or is not TOML.
    """
    try:
        return tomllib.loads(read_text(file, LARGEST))
    except FileNotFoundError:
        raise SpecError(f"there is no study file {file}") from None
    except RecursionError:
        raise SpecError(f"{file} cannot be read as TOML: {DEEP}") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{file} cannot be read as TOML: {error}") from None
