"""Which files of a folder a checkpoint consists of: those that loading it reads."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from allocator.core.errors import ModelError
from allocator.families._json import is_there, read_json
from allocator.families._prompts import PROMPTS_FILE
from allocator.families._weights import (
    ADAPTER_FILES,
    AHEAD,
    INDEX,
    check_weights,
    part_tensors,
    weight_files,
)

if TYPE_CHECKING:
    from pathlib import Path

# Beside the weights: what transformers 5.24 reads of a folder for a configuration
# (`configuration_utils`, `generation.configuration_utils`), a processor
# (`processing_utils`, `image_processing_base`, `models.auto.processing_auto`) and a
# tokenizer (`tokenization_utils_base`; `vocab_files_names` of each class), as patterns.
# A number stands for a version of transformers that a file is meant for.
READ = (
    *("config.json", "config.[0-9]*.json", "generation_config.json"),
    *("processor_config.json", "preprocessor_config.json"),
    "video_preprocessor_config.json",
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
    *("tokenizer.json", "tokenizer.[0-9]*.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "*.model", "tekken.json"),
    PROMPTS_FILE,
)
ADDED = "added_tokens.json"
# what a file holds if it is the one its name says
NEEDED = {
    "tokenizer.json": ("model", "added_tokens"),
    "chat_template.json": ("chat_template",),
}
# of those, what is for videos
UNREAD = ("video_preprocessor_config.json",)
# endings of files that hold weights, of whatever library
WEIGHTS = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt"),
    *(".gguf", ".h5", ".msgpack", ".npz", ".onnx"),
)
# what training leaves beside a checkpoint
TRAINING = re.compile(r"optimizer|scheduler|scaler|rng_state|random_states|training_")


def checkpoint_files(folder: Path, *, packed: bool = False) -> tuple[Path, ...]:
    """Everything that decides what a model replies, and nothing else of its folder.

    An index is none of it: the weights that it lists are. `packed` allows weights that
    are quantized.

    Raises:
        ModelError: weights are missing or damaged.
    """
    read = {file for file in _small_files(folder) if file.is_file()}
    return (*check_weights(folder, packed=packed), *sorted(read))


def check_files(folder: Path) -> None:
    """Refuse what has the name of a file that is loaded, and is none.

    Most of them need not be there, and are passed over by whoever reads them. Folders
    of links into a cache are copied without what the links lead to.

    Raises:
        ModelError: names it.
    """
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            named = any(fnmatch(file.name, name) for name in (*READ, INDEX))
            # a folder may be called like what only a pattern knows
            if named and (file.name in READ or not file.is_dir()):
                is_there(file)


def check_small_files(folder: Path) -> None:
    """Refuse a file beside the weights that transformers could not read.

    It would say what it stumbled over, and not in which file.

    Raises:
        ModelError: names the file.
    """
    for file in _small_files(folder):
        if not is_there(file) or file.suffix != ".json" or file.name in UNREAD:
            continue
        found = read_json(file)
        if file.name != PROMPTS_FILE and file.read_bytes().startswith(BOM_UTF8):
            raise ModelError(
                f"{file} begins with a byte order mark, which transformers does not "
                "read: save it without"
            )
        if not isinstance(found, dict):
            raise ModelError(f"{file} holds no settings: it is no object")
        lacking = [key for key in NEEDED.get(file.name, ()) if key not in found]
        if lacking:
            raise ModelError(f"{file} has no {lacking[0]!r}: it is another file")
        if file.name == ADDED and not all(type(n) is int for n in found.values()):
            raise ModelError(f"{file} has tokens whose number is none")


def _small_files(folder: Path) -> list[Path]:
    """Files beside the weights that may be read, whether or not they are there."""
    named = [folder / name for name in READ if "*" not in name]
    several = [sorted(folder.glob(pattern)) for pattern in READ if "*" in pattern]
    return [*named, *(file for files in several for file in files)]


def unread_files(folder: Path) -> tuple[str, ...]:
    """Weights in a folder, by name, that nobody reads: people may mean them.

    Adapters beside the weights are refused; those in a folder below may be others'.
    What guesses tokens ahead is a part of files that are read.
    """
    loaded = {file.name for file in weight_files(folder)}
    beside = [
        file.name
        for file in folder.iterdir()
        if file.suffix in WEIGHTS and file.name not in loaded and file.is_file()
    ]
    adapters = [
        f"{name}/{ADAPTER_FILES[0]}"
        for name in sorted(each.name for each in folder.iterdir() if each.is_dir())
        if (folder / name / ADAPTER_FILES[0]).is_file()
    ]
    known = [name for name in sorted(beside) if not TRAINING.match(name)]
    ahead = part_tensors(folder, AHEAD)
    return (
        *known,
        *adapters,
        *([f"a part {AHEAD} ({ahead} tensors)"] if ahead else []),
    )
