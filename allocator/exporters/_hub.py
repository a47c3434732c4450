"""What is written around the weights: names of tensors, config.json, small files.

They are the source checkpoint's. Where transformers 5 saved it, which has other names
for some parts, they are those of the published checkpoints of its kind: other runtimes
know only these.
"""

from __future__ import annotations

import json
import shutil
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from allocator.core.errors import ModelError, SpecError
from allocator.exporters._published import (
    TEXT,
    published_as,
    published_config,
)
from allocator.families._checkpoint import quiet, read_config
from allocator.families._files import READ
from allocator.families._weights import read_headers, weight_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from allocator.exporters._checkpoint import Checkpoint

TIED = "tie_word_embeddings"
TYPES = ("dtype", "torch_dtype")
# behind the name of a tensor that transformers changes when it reads it
CONVERTED = " (converted)"
# what may differ between two configurations of one model
FREE = (*TYPES, TIED, "transformers_version", "model_type", "_name_or_path")


@dataclass(frozen=True, eq=False)
class Hub:
    """How a checkpoint is laid out where models are published.

    Attributes:
        keys: name of the tensor that holds a parameter, by its full name; the same one
            for all names of a parameter that is tied.
        config: config.json, `dtype` and `torch_dtype` set to the 16-bit type.
        files: what else belongs into the folder: generation config, processor,
            tokenizer and chat template, by name below it.
    """

    keys: Mapping[str, str]
    config: dict[str, Any]
    files: Mapping[str, Path]

    def write(self, out: Path, settings: Mapping[str, Any]) -> None:
        """Write config.json with some more settings, and copy the files.

        Raises:
            SpecError: a file cannot be written there.
        """
        self.copy(out)
        config = {**self.config, **settings}
        (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    def copy(self, out: Path) -> None:
        """Copy the files into a folder, config.json and weights not among them.

        Raises:
            SpecError: one cannot be written there.
        """
        try:
            for name, file in self.files.items():
                target = out / name
                target.parent.mkdir(parents=True, exist_ok=True)
                # a link is followed: caches of downloads consist of them
                shutil.copyfile(file, target)
        except OSError as error:
            raise SpecError(f"cannot write {target}: {error}") from None


def hub_of(checkpoint: Checkpoint) -> Hub:
    """The names and files that a checkpoint is written with.

    Raises:
        ModelError: a quantized linear is stored in parts, or transformers 5 saved the
            checkpoint and how such models are published is not known.
    """
    folder, module = checkpoint.folder, checkpoint.model.module
    source = read_config(folder)
    stored = stored_keys(module, read_headers(folder, weight_files(folder)))
    published = published_as(source)
    names = _one_each(checkpoint, stored)
    keys = {name: published.key(key) for name, key in names.items()}
    _check_once(folder, names, keys)
    config = published_config(source)
    _check_same(module.config, source, config, folder)
    _tie_(config, module)
    _type_(config, str(checkpoint.dtype).removeprefix("torch."))
    return Hub(keys, config, _files(folder))


def stored_keys(module: Any, keys: Iterable[str]) -> dict[str, list[str]]:
    """Names of the tensors that each entry of a module's state is read from.

    By transformers' own renaming, as loading applies it
    (`core_model_loading.convert_and_load_state_dict_in_model`).

    Args:
        module: a transformers module.
        keys: names of tensors in its checkpoint.

    Returns:
        By full name; one name where nothing is converted, else two or more, or one that
        ends in " (converted)".
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import (
        WeightConverter,
        WeightRenaming,
        dot_natural_key,
        rename_source_key,
    )

    with quiet():
        mapping = get_model_conversion_mapping(module)
    renamings = [each for each in mapping if isinstance(each, WeightRenaming)]
    converters = [each for each in mapping if isinstance(each, WeightConverter)]
    state, base = module.state_dict(), module.base_model_prefix
    found: dict[str, list[str]] = {}
    for key in sorted(keys, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, base, state)
        if name not in state and key in state:
            name, pattern = rename_source_key(key, [], [], base, state)
        found.setdefault(name, []).append(f"{key}{CONVERTED}" if pattern else key)
    return found


def _one_each(
    checkpoint: Checkpoint, stored: Mapping[str, list[str]]
) -> dict[str, str]:
    """The tensor that each parameter is read from, by every full name that it has.

    Of tied parameters the first that is stored counts: the embeddings come before the
    head, and readers that tie look for these.
    """
    module, folder = checkpoint.model.module, checkpoint.folder
    same: dict[int, list[str]] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        same.setdefault(id(value), []).append(name)
    found = {}
    buffers = ((n, b) for n, b in module.named_buffers() if id(b) in same)
    for name, parameter in chain(module.named_parameters(), buffers):
        alike = dict.fromkeys([name, *same[id(parameter)]])
        keys = next((stored[n] for n in alike if n in stored), [])
        if len(keys) == 1 and not keys[0].endswith(CONVERTED):
            found.update(dict.fromkeys(alike, keys[0]))
            continue
        linear = name.removesuffix(".weight")
        kind = "quantized linear" if linear in checkpoint.low else "parameter"
        said = f"is made of {', '.join(keys)}" if keys else "has no tensor of its own"
        raise ModelError(
            f"the {kind} {linear} {said} in {folder}: only what is stored as one "
            "tensor can be written in its place"
        )
    return found


def _check_once(
    folder: Path, names: Mapping[str, str], keys: Mapping[str, str]
) -> None:
    """Refuse tensors that would have one name, and had not.

    Raises:
        ModelError: names it.
    """
    before: dict[str, str] = {}
    for name, key in keys.items():
        if before.setdefault(key, names[name]) != names[name]:
            raise ModelError(
                f"{folder} stores {before[key]} and {names[name]}, and both are "
                f"published as {key}"
            )


def _tie_(config: dict[str, Any], module: Any) -> None:
    """Let a configuration say whether head and embeddings are one matrix.

    One is stored once, and a reader that looks for two would miss the other. Some
    configurations say it of the language model alone, or otherwise there than of the
    whole. In a T5 it means more, and what is stored there is what was.
    """
    head, words = module.get_output_embeddings(), module.get_input_embeddings()
    text = config.get(TEXT)
    if head is None or words is None or (text or config).get("model_type") == "t5":
        return
    tied = head.weight is words.weight
    # nothing said is no for some kinds
    if text is None or TIED in config or tied:
        config[TIED] = tied
    if text is not None:
        text[TIED] = tied


def _type_(config: dict[str, Any], dtype: str) -> None:
    """Let a configuration name the type that weights are stored in."""
    config |= dict.fromkeys(TYPES, dtype)
    for part in config.values():
        if isinstance(part, dict):
            part |= {name: dtype for name in TYPES if name in part}


def _check_same(
    built: Any, source: Mapping[str, Any], made: dict[str, Any], folder: Path
) -> None:
    """Refuse a layout that transformers reads otherwise than the source's.

    Raises:
        ModelError: names what differs.
    """
    with quiet():
        # reading one changes it
        before, after = (
            _settings(type(built).from_dict(deepcopy(each)).to_dict())
            for each in (source, made)
        )
    # where a part is there, nobody reads its settings at the top
    wrong = sorted(
        k
        for k, v in before.items()
        if after.get(k) != v and f"{TEXT}.{k}" not in before
    )
    if wrong:
        raise ModelError(
            f"{folder}/config.json: {wrong[0]} {before[wrong[0]]!r} would be read as "
            f"{after.get(wrong[0])!r} in the layout that is published"
        )


def _settings(config: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """All settings of a configuration by path, but those that may differ."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found |= _settings(value, f"{where}{name}.")
        elif name not in FREE:
            found[f"{where}{name}"] = value
    return found


def _files(folder: Path) -> dict[str, Path]:
    """What loading reads beside config.json and the weights, by name below a folder."""
    patterns = [name for name in READ if not name.startswith("config.")]
    found = (file for name in patterns for file in sorted(folder.glob(name)))
    return {f.relative_to(folder).as_posix(): f for f in found if f.is_file()}
