"""What every family shares: reading checkpoints.

torch and transformers are imported inside the functions, so that naming the families
costs nothing.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError
from allocator.families._files import check_files
from allocator.families._json import is_there, read_json
from allocator.families._quantized import check_plain
from allocator.families._weights import check_adapter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

MOST_BLOCKS = 1_000


def read_plain_config(folder: Path) -> dict[str, Any]:
    """The config.json of a checkpoint as it was trained.

    Raises:
        ModelError: see `read_config`, or its weights are quantized.
    """
    config = read_config(folder)
    check_plain(folder, config)
    return config


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises:
        ModelError: the folder has none, it is not JSON, or it holds an adapter.
    """
    file = folder / "config.json"
    check_adapter(folder)
    check_files(folder)
    if not is_there(file):
        raise ModelError(f"{folder} is not a model folder: it has no config.json")
    config = read_json(file)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{file} names no model_type")
    _check_depth(file, config)
    return config


def _check_depth(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse a number of blocks that no model has: building them would never end."""
    for key, value in config.items():
        if isinstance(value, dict):
            _check_depth(file, value)
        counts = "layers" in key or key == "depth"
        if counts and isinstance(value, int) and value > MOST_BLOCKS:
            raise ModelError(f"{file}: {key} {value} is over {MOST_BLOCKS}")


def part_of_config(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A component's part of a configuration; empty where there is none."""
    part = config.get(name)
    return part if isinstance(part, dict) else {}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own bars and advice off the user's screen."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    with ExitStack() as stack:
        stack.callback(logging.set_verbosity, before)
        if logging.is_progress_bar_enabled():
            stack.callback(logging.enable_progress_bar)
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        yield
