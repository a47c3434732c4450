"""The files of weights in a model folder: which are loaded, and what each may hold.

Weights that somebody has quantized already, tensors that nobody would read and files
that contradict each other score like a model that was trained badly, so all of them are
refused by name before anything is built.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING

from allocator.core.errors import ModelError
from allocator.families._headers import Stored as Stored
from allocator.families._headers import bytes_of, header_of
from allocator.families._json import read_json

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# what transformers calls weights; others that lie beside are somebody else's
NAMED = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
# as safetensors names them, narrow to wide
FLOATS = ("F16", "BF16", "F32", "F64")
# a part of Qwen3.5's files
AHEAD = "mtp"
# tensors that may lie in a file without being read, and why
HARMLESS = {
    r"(^|\.)rotary_emb\.inv_freq$": "frequencies of positions, computed anew",
    r"(^|\.)position_ids$": "0, 1, 2 and so on, made anew",
    r"(^|\.)attn\.(masked_)?bias$": "a causal mask, made anew",
    r"(^|\.)num_batches_tracked$": "a count from training",
    rf"^{AHEAD}\.": "blocks that guess further tokens ahead, which no reply hangs on",
    r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$": (
        "old T5 files have it, and no T5 ever read it"
    ),
}
ADAPTER_FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
# in the names of tensors: what quantizers store beside or in place of weights
QUANTIZED_NAMES = re.compile(
    r"scale|zero|packed|qweight|qzeros|g_idx|absmax|quant|amax|input_max|weight_shape",
    re.IGNORECASE,
)
# tensors of packed weights that are no floats, as compressed-tensors and auto-round
# name and store them
CODES = {
    **dict.fromkeys(("weight_packed", "weight_zero_point", "qweight", "qzeros"), "I32"),
    "weight_shape": "I64",
}
SHOWN = 3
# bytes that no file system gives to more of a name
LONGEST_NAME = 255


def check_adapter(folder: Path) -> None:
    """Refuse an adapter, which changes weights that it does not hold.

    Raises:
        ModelError: there is one.
    """
    for name in ADAPTER_FILES:
        if (folder / name).is_file():
            raise ModelError(
                f"{folder} holds an adapter ({name}), which would not be read: merge "
                "it into the weights of its model (merge_and_unload of peft), or take "
                "it out"
            )


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Files of weights that are loaded, whether or not they are there.

    Those that the index lists, or else model.safetensors.

    Raises:
        ModelError: the index cannot be read or is not there, or other weights lie
            beside those.
    """
    index = folder / INDEX
    files: tuple[Path, ...] = (folder / SINGLE,)
    if index.is_file():
        files = tuple(folder / name for name in sorted(set(_listed(index).values())))
    names = {file.name for file in files}
    there = sorted(f.name for f in folder.iterdir() if NAMED.fullmatch(f.name))
    other = [name for name in there if name not in names]
    if other:
        listed = ", ".join(other[:SHOWN])
        if index.is_file():
            said = f"beside the weights that {INDEX} lists: take one or the other away"
        elif SINGLE in there:
            said = f"beside {SINGLE}, and no {INDEX}: take one or the other away"
        else:
            said = f"and no {INDEX} that lists it: copy that too"
        raise ModelError(f"{folder} has {listed} {said}")
    return files


def _listed(index: Path) -> dict[str, str]:
    """Which file an index says each tensor is in.

    Raises:
        ModelError: it lists none, or files outside the folder.
    """
    try:
        listed = read_json(index)["weight_map"]
        names = {str(key): _file_name(name) for key, name in listed.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ModelError(f"{index} lists no weights: {error}") from None
    if not names:
        raise ModelError(f"{index} lists no weights")
    outside = [name for name in names.values() if not _is_beside(name)]
    if outside:
        raise ModelError(f"{index} lists {outside[0]!r}, which is no file beside it")
    return names


def _file_name(said: object) -> str:
    if not isinstance(said, str):
        raise TypeError(f"{said!r:.60} is no name of a file")
    return said


def _is_beside(name: str) -> bool:
    """Whether a name is one that a file in the same folder may have."""
    is_long = len(name.encode(errors="replace")) > LONGEST_NAME
    return not is_long and os.path.basename(name) == name and name not in ("", "..")


def stored_names(folder: Path) -> tuple[str, ...]:
    """Names of tensors as the index has them; empty where there is no index."""
    index = folder / INDEX
    return tuple(_listed(index)) if index.is_file() else ()


def part_tensors(folder: Path, part: str) -> int:
    """How many tensors of a part the files hold, as far as they are there."""
    names: Collection[str] = stored_names(folder)
    if not names and (folder / SINGLE).is_file():
        names = header_of(folder, folder / SINGLE)
    return sum(name.startswith(f"{part}.") for name in names)


def has_weights(folder: Path) -> bool:
    """Whether any file of weights is there, or only a configuration."""
    return any(file.is_file() for file in weight_files(folder))


def check_weights(folder: Path, *, packed: bool = False) -> tuple[Path, ...]:
    """Safetensors files of a checkpoint, each opened once to see what it holds.

    `packed` allows weights that are quantized.

    Raises:
        ModelError: there is none, one listed in the index is missing or damaged, or
            they hold what is not read; see `read_headers`.
    """
    files = weight_files(folder)
    read_headers(folder, files, packed=packed)
    return files


def tensor_bytes(folder: Path) -> int:
    """Bytes of all tensors in a checkpoint's files, as their headers say.

    Raises:
        ModelError: the index or a header cannot be read, or other weights lie beside.
    """
    return sum(map(bytes_of, weight_files(folder)))


def read_headers(
    folder: Path, files: Iterable[Path], *, packed: bool = False
) -> dict[str, Stored]:
    """Every tensor in some files by its name, harmless ones left out.

    Args:
        folder: that they are in.
        files: of its weights.
        packed: whether tensors may be integers, as weights are quantized.

    Raises:
        ModelError: a file is missing or damaged, a tensor is stored twice, is not where
            the index says or is no 16-, 32- or 64-bit float.
    """
    found: dict[str, Stored] = {}
    places: dict[str, str] = {}
    for file in files:
        for name, stored in header_of(folder, file).items():
            if name in places:
                raise ModelError(
                    f"{folder} has the tensor {name} twice, in {places[name]} and "
                    f"{file.name}: which one counts is not known"
                )
            places[name] = file.name
            if not is_harmless(name):
                found[name] = stored
    if (folder / INDEX).is_file():
        _check_index(folder, places)
    codes = {k for k in found if packed and k.rpartition(".")[2] in CODES}
    wrong = [k for k in codes if found[k].type != CODES[k.rpartition(".")[2]]]
    if wrong:
        raise ModelError(
            f"{folder} stores {shown(wrong)} as {found[wrong[0]].type}, and codes are "
            f"{CODES[wrong[0].rpartition('.')[2]]}"
        )
    _check_floats(folder, {k: v for k, v in found.items() if k not in codes})
    return found


def _check_index(folder: Path, places: Mapping[str, str]) -> None:
    """Refuse an index that belongs to other files."""
    listed = _listed(folder / INDEX)
    wrong = [name for name, file in listed.items() if places.get(name) != file]
    if wrong:
        raise ModelError(
            f"{folder}/{INDEX} says that {listed[wrong[0]]} holds {wrong[0]}"
            f"{_and_more(wrong)}, and it does not: index and files do not belong "
            "together"
        )


def _check_floats(folder: Path, found: Mapping[str, Stored]) -> None:
    """Refuse weights that are no plain floats."""
    other = [name for name, stored in found.items() if stored.type not in FLOATS]
    if other:
        kinds = ", ".join(sorted({found[name].type for name in other}))
        raise ModelError(
            f"{folder} stores {shown(other)} as {kinds}: its weights are quantized "
            "already, and only 16-, 32- and 64-bit floats are read; take the "
            "checkpoint they were made from, or dequantize them"
        )


def is_harmless(name: str) -> bool:
    """Whether a tensor may lie in a file without being read."""
    return any(re.search(pattern, name) for pattern in HARMLESS)


def refuse_misfits(
    folder: Path, missing: Collection[str], unread: Collection[str]
) -> None:
    """Refuse weights that a configuration lacks or does not read.

    Args:
        folder: for the message.
        missing: full names of parameters without a tensor.
        unread: names of tensors without a parameter.

    Raises:
        ModelError: there are any; names some, and what they are most likely of.
    """
    unread = sorted(name for name in unread if not is_harmless(name))
    if unread:
        raise ModelError(
            f"{folder} stores {shown(unread)}, which nothing that its config.json "
            f"describes would read{_likely(unread, missing)}"
        )
    if missing:
        head = [name for name in missing if name.endswith("lm_head.weight")]
        hint = ""
        if len(head) == len(missing):
            hint = (
                "; if head and embeddings are one matrix, tie_word_embeddings in "
                "config.json says so"
            )
        names = sorted(missing)
        raise ModelError(
            f"{folder} lacks {len(names)} weights, {names[0]} among them{hint}"
        )


def _likely(unread: Collection[str], missing: Collection[str]) -> str:
    """What tensors that nobody reads are most likely of, and what to do."""
    if any("lora_" in name or "base_model.model" in name for name in unread):
        return ": merge the adapter into the weights (merge_and_unload of peft)"
    if any(QUANTIZED_NAMES.search(name) for name in unread):
        return (
            ": weights that are quantized already; take the checkpoint they were made "
            "from, or dequantize them"
        )
    if missing:
        return (
            f", while it lacks {len(missing)} weights, {min(missing)} among them: "
            "weights and config.json do not belong together"
        )
    return (
        ": it describes another model, fewer blocks or no such biases; take the "
        "config.json that belongs to these weights"
    )


def shown(names: Collection[str]) -> str:
    """How many tensors, and the first of them by name."""
    several = "tensor" if len(names) == 1 else f"{len(names)} tensors:"
    listed = ", ".join(sorted(names)[:SHOWN])
    return f"{several} {listed}{' ...' if len(names) > SHOWN else ''}"


def _and_more(names: Collection[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def common_type(headers: Mapping[str, Stored]) -> str:
    """The floating point type that most tensors have, in torch's words."""
    most = Counter(stored.type for stored in headers.values()).most_common(1)
    words = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
    return words[most[0][0]] if most else "float32"
