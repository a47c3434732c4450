"""Which files of a folder a checkpoint consists of: those that loading it reads."""

from __future__ import annotations

import os
from fnmatch import fnmatch
from typing import TYPE_CHECKING

from allocator.core.errors import ModelError
from allocator.families._prompts import PROMPTS_FILE
from allocator.families._weights import INDEX, check_weights

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


def checkpoint_files(folder: Path) -> tuple[Path, ...]:
    """Everything that decides what a model replies, and nothing else of its folder.

    An index is none of it: the weights that it lists are.

    Raises:
        ModelError: weights are missing or damaged.
    """
    read = {file for pattern in READ for file in folder.glob(pattern) if file.is_file()}
    return (*check_weights(folder), *sorted(read))


def check_files(folder: Path) -> None:
    """Refuse what has the name of a file that is loaded, and cannot be read.

    Most of them need not be there, and are passed over by whoever reads them. Folders
    of links into a cache are copied without what the links lead to.

    Raises:
        ModelError: names it.
    """
    if not folder.is_dir():
        return
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_file() or not any(fnmatch(entry.name, n) for n in (*READ, INDEX)):
            continue
        if entry.is_symlink():
            raise ModelError(
                f"{entry.path} is a link that leads to no file ({os.readlink(entry)}): "
                "bring the file, or take the link away"
            )
        if entry.name in READ:
            raise ModelError(f"{entry.path} is a folder, where a file is loaded")
