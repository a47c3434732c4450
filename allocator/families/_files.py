"""Which files of a folder a checkpoint consists of: those that loading it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allocator.families._prompts import PROMPTS_FILE
from allocator.families._weights import check_weights

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
