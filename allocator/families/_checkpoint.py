"""What every family shares: reading checkpoints.

torch and transformers are imported inside the functions, so that naming the families
costs nothing.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, reason
from allocator.families._weights import check_adapter, check_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PROMPTS_FILE = "prompts.json"
MOST_BLOCKS = 1_000


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises:
        ModelError: the folder has none, it is not JSON, or its weights are not those of
            a model as it was trained.
    """
    file = folder / "config.json"
    check_adapter(folder)
    if not file.is_file():
        raise ModelError(f"{folder} is not a model folder: it has no config.json")
    try:
        config = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, RecursionError, ValueError) as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{file} names no model_type")
    _check_depth(file, config)
    check_plain(folder, config)
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


def read_prompts(folder: Path, published: Mapping[str, str]) -> dict[str, str]:
    """Prompts by kind: the folder's own, or the published ones.

    A model trained on other words brings `prompts.json`, {"vqa": "... {} ..."}; those
    for "vqa" serve for "gqa" too, unless it brings others.
    """
    file = folder / PROMPTS_FILE
    if not file.is_file():
        return dict(published)
    try:
        own = json.loads(file.read_text())
    except ValueError as error:
        raise ModelError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(own, dict) or not all(isinstance(v, str) for v in own.values()):
        raise ModelError(
            f'{file} is not of the form {{"vqa": "Question: {{}} Answer:"}}'
        )
    if "vqa" in own:
        own = {"gqa": own["vqa"], **own}
    return {**published, **own}


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


def read_processor(folder: Path) -> Any:
    """The checkpoint's image processor and tokenizer, as transformers pairs them."""
    from transformers import AutoProcessor

    try:
        with quiet(), _without_videos():
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (ImportError, OSError, ValueError) as error:
        raise ModelError(f"{folder} has no usable processor: {reason(error)}") from None
    processor.tokenizer.padding_side = "left"
    return processor


class _NoVideos(dict[str, Any]):
    """Stands for a part that is not there: transformers writes parts out as dicts."""

    model_input_names = ()
    # SmolVLM's processor looks at these, whatever it is given
    num_frames = fps = None


@contextmanager
def _without_videos() -> Iterator[None]:
    """Let processors be read without their part for videos, which needs torchvision."""
    from transformers import ProcessorMixin
    from transformers.models.auto.video_processing_auto import AutoVideoProcessor

    check = ProcessorMixin.check_argument_for_proper_class
    read = AutoVideoProcessor.__dict__["from_pretrained"]

    def checked(processor: Any, name: str, part: Any) -> Any:
        return None if name == "video_processor" else check(processor, name, part)

    ProcessorMixin.check_argument_for_proper_class = checked
    AutoVideoProcessor.from_pretrained = lambda *_, **__: _NoVideos()
    try:
        yield
    finally:
        ProcessorMixin.check_argument_for_proper_class = check
        AutoVideoProcessor.from_pretrained = read
