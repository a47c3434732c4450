"""The content of a file that another tool wrote: JSON, YAML, or a width a line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from allocator.core.bounded import DEEP, BoundError, parse_json, read_text
from allocator.core.errors import SpecError, reason

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# YAML is read a hundred times as slowly as JSON
LARGEST_YAML = 2**20
# values of one, those that it refers to counted each time
MOST = 10**6
# `layer: bits`, several layers separated by commas (EvoPress, evo_quant_search.py)
LINE = re.compile(r"\s*([^\s:{}\[\]#-][^\s:]*)\s*:\s*(\d+(?:\.\d+)?)\s*")


def contents(file: Path) -> dict[str, Any]:
    """What a file holds, as an object of JSON.

    Raises:
        SpecError: it is missing, too large, no text, neither JSON nor YAML, no object,
            or names something twice.
    """
    text = _text(file)
    if not text.strip():
        raise SpecError(f"{file} is empty")
    try:
        found = _parsed(text)
    except SpecError as error:
        raise SpecError(f"{file} {error}") from None
    except RecursionError:
        raise SpecError(f"{file} cannot be read: {DEEP}") from None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise SpecError(f"{file} holds no names with what belongs to them")
    return found


def _text(file: Path) -> str:
    try:
        return read_text(file)
    except FileNotFoundError:
        raise SpecError(f"there is no file {file}") from None
    except OSError as error:
        raise SpecError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{file} is no text") from None
    except BoundError as error:
        raise SpecError(f"{file} is no allocation: {error}") from None


def _parsed(text: str) -> Any:
    if text.lstrip().startswith(("{", "[")):
        try:
            return parse_json(text, object_pairs_hook=_once)
        except SpecError:
            raise
        except ValueError as error:
            raise SpecError(f"cannot be read as JSON: {error}") from None
    lines = [line for line in text.splitlines() if line.strip()]
    if all(LINE.fullmatch(line) for line in lines):
        return _widths(lines)
    return _yaml(text)


def _widths(lines: Iterable[str]) -> dict[str, Any]:
    pairs = []
    for line in lines:
        found = LINE.fullmatch(line)
        assert found is not None
        bits = float(found[2])
        own = (name for name in found[1].split(",") if name)
        pairs += [(name, int(bits) if bits.is_integer() else bits) for name in own]
    return _once(pairs)


def _yaml(text: str) -> Any:
    """YAML of plain data; no tag of it makes anything else."""
    # transformers and huggingface_hub bring it
    import yaml  # type: ignore[import-untyped]

    if len(text) > LARGEST_YAML:
        raise SpecError(f"has {len(text):,} characters, more than any recipe")
    try:
        # the loader is a safe one, which makes plain data alone
        return _finite(yaml.load(text, Loader=_loader(yaml)))  # nosec B506: see above
    except SpecError:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        why = f"{error.problem}, line {line}"
        raise SpecError(f"cannot be read as YAML: {why}") from None
    except (yaml.YAMLError, ValueError) as error:
        # dates and numbers that there are none of
        raise SpecError(f"cannot be read as YAML: {reason(error)}") from None


def _finite(found: Any) -> Any:
    """The same data, if its references to itself do not make too much of it.

    Raises:
        SpecError: spelled out, it has more than `MOST` values, or never ends.
    """
    stack, count = [found], 0
    while stack:
        value = stack.pop()
        count += 1
        if count > MOST:
            raise SpecError(f"spells out more than {MOST:,} values")
        if isinstance(value, dict | list):
            stack += value.values() if isinstance(value, dict) else value
    return found


def _loader(yaml: Any) -> Any:
    """A safe loader for which keys that come twice are an error."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
            _once([(key, None) for key in keys if isinstance(key, str)])
            found: dict[Any, Any] = super().construct_mapping(node, deep)
            return found

    return Loader


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Pairs as an object, each name once."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise SpecError(f"names {key!r:.200} twice")
        found[key] = value
    return found
