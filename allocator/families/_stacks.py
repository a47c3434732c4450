"""Experts as files have them, put together as a module has them, without copies.

A module keeps a block's experts as one parameter. Files have that, or have it turned
round, which is a view of them, or have each expert apart. transformers stacks those in
memory, as many bytes as the model has; here they go into a file without a name.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import shutil
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

import torch
from transformers import modeling_utils
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    Transpose,
    WeightConverter,
)

from allocator.core.amounts import in_bytes
from allocator.core.errors import ModelError
from allocator.core.home import cache_home
from allocator.families._checkpoint import read_config
from allocator.families._weights import refuse_misfits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from allocator.families._weights import Stored

    Room = Callable[[tuple[int, ...], torch.dtype], Tensor]

BYTES = {"F64": 8, "F32": 4}
# what is left on a disk for others
SPARE = 2**30


def nowhere(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Room for what nobody reads."""
    return torch.empty(shape, dtype=dtype, device="meta")


def on_disk(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Room in a file without a name, which is gone with the last view of it."""
    size = math.prod(shape) * dtype.itemsize
    folder = cache_home()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        return torch.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype).view(shape)


class Together(MergeModulelist):  # type: ignore[misc]
    """Experts one behind the other, and of each what several tensors have."""

    def __init__(self, room: Room) -> None:
        super().__init__(dim=0)
        self.room = room

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, list[Tensor]],
        source_patterns: list[str],
        target_patterns: list[str],
        **_: Any,
    ) -> dict[str, Tensor]:
        """One stack [experts, out, in] of tensors [out, in], in their widest type."""
        parts = [input_dict.pop(pattern) for pattern in source_patterns]
        rows = [part[0].shape[0] for part in parts]
        dtype = parts[0][0].dtype
        for each in (tensor for part in parts for tensor in part):
            dtype = torch.promote_types(dtype, each.dtype)
        stack = self.room((len(parts[0]), sum(rows), *parts[0][0].shape[1:]), dtype)
        if not stack.is_meta:
            for place, *own in zip(stack, *parts, strict=True):
                torch.cat([tensor.to(dtype) for tensor in own], out=place)
        return {target_patterns[0]: stack}


class Turned(Transpose):  # type: ignore[misc]
    """A stack that is stored turned round: a view."""

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, list[Tensor]],
        source_patterns: list[str],
        target_patterns: list[str],
        **more: Any,
    ) -> dict[str, Tensor]:
        """As transformers would, without making rows lie together."""
        target = self.get_target_pattern(input_dict, source_patterns, target_patterns)
        tensor = next(iter(input_dict.values()))[0]
        wanted = more["model"].get_parameter(more["full_layer_name"]).shape
        if self.check_dims and tensor.shape == wanted:
            return {target: tensor}
        return {target: tensor.transpose(self.dim0, self.dim1)}


def converted(
    conversions: Sequence[Any],
    module: Any,
    folder: Path,
    stored: Mapping[str, Stored],
    room: Room | None,
) -> list[Any]:
    """How transformers makes a module's parameters of stored tensors, without copies.

    Args:
        conversions: its own.
        module: that they are of.
        folder: of the checkpoint.
        stored: its tensors.
        room: where experts go that are stored apart; None: all stays as it is.

    Raises:
        ModelError: an expert is missing, or no disk holds them all.
    """
    found = [each for each in conversions if isinstance(each, WeightConverter)]
    for each in found:
        _check_experts(each, module, folder, stored)
        _check_square(each, folder, stored)
    if room is None:
        return list(conversions)
    if room is on_disk:
        _check_room(folder, [x for each in found for x in _apart(each, stored)])
    return [_without_copies(each, room) for each in conversions]


def _without_copies(conversion: Any, room: Room) -> Any:
    """The same conversion by operations that copy nothing, where there are some."""
    kinds = [type(each) for each in getattr(conversion, "operations", ())]
    if _is_merged(conversion):
        conversion.operations = [Together(room)]
    elif kinds == [Transpose]:
        (plain,) = conversion.operations
        conversion.operations = [Turned(plain.dim0, plain.dim1, plain.check_dims)]
    return conversion


def _is_merged(conversion: Any) -> bool:
    """Whether it stacks matrices, or first puts the rows of several together."""
    operations = getattr(conversion, "operations", ())
    plain = [(type(each), getattr(each, "dim", None)) for each in operations]
    return plain in ([(MergeModulelist, 0)], [(MergeModulelist, 0), (Concatenate, 1)])


def _apart(conversion: Any, stored: Mapping[str, Stored]) -> list[Stored]:
    """Tensors that it stacks."""
    if not _is_merged(conversion):
        return []
    sources = conversion.compiled_sources
    return [each for name, each in stored.items() if sources.search(name)]


def _check_room(folder: Path, apart: Sequence[Stored]) -> None:
    """Refuse to put more together than the disk holds.

    Raises:
        ModelError: it would not fit.
    """
    needed = sum(math.prod(x.shape) * BYTES.get(x.type, 2) for x in apart)
    cache_home().mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache_home()).free
    if needed and needed + SPARE > free:
        raise ModelError(
            f"{folder} stores each expert apart: put together they take "
            f"{in_bytes(needed)} for as long as the model is read, and the disk of "
            f"{cache_home()} has {in_bytes(free)} left"
        )


def _check_experts(
    conversion: Any, module: Any, folder: Path, stored: Mapping[str, Stored]
) -> None:
    """Refuse experts of which some are there and others are not.

    Raises:
        ModelError: names one that is missing, or one too many.
    """
    patterns = [each for each in conversion.source_patterns if "*." in each]
    if not patterns:
        return
    there: dict[str, set[tuple[str, int]]] = {}
    for pattern in patterns:
        wanted = re.compile(re.escape(pattern).replace(r"\*", r"(\d+)") + "$")
        for name in stored:
            if found := wanted.search(name):
                own = there.setdefault(name[: found.start()], set())
                own.add((pattern, int(found[1])))
    # some share theirs out to several stacks
    count = sum(_count(module, target) for target in conversion.target_patterns)
    whole = {(pattern, number) for pattern in patterns for number in range(count)}
    missing = [_named(x, *y) for x, own in there.items() for y in whole - own]
    beyond = [_named(x, *y) for x, own in there.items() for y in own - whole]
    refuse_misfits(folder, missing, beyond)


def _check_square(conversion: Any, folder: Path, stored: Mapping[str, Stored]) -> None:
    """Refuse stacks of which nobody can tell whether they are turned round.

    transformers goes by the shape: before its release 5 all of these were.

    Raises:
        ModelError: an older release stored square ones.
    """
    if not any(getattr(each, "check_dims", False) for each in conversion.operations):
        return
    version = str(read_config(folder).get("transformers_version", ""))
    square = [
        name
        for name, each in stored.items()
        if conversion.compiled_sources.search(name) and len(set(each.shape[1:])) == 1
    ]
    if square and version.startswith("4."):
        raise ModelError(
            f"{folder} stores {square[0]}, whose matrices are square, by transformers "
            f"{version}, which had rows and columns exchanged: transformers 5 would "
            "read them as they are"
        )


def _named(before: str, pattern: str, number: int) -> str:
    return before + pattern.replace("*", str(number))


def _count(module: Any, target: str) -> int:
    """How many experts the module's stacks of this name have."""
    sizes = (len(p) for name, p in module.named_parameters() if name.endswith(target))
    return max(sizes, default=0)


@contextmanager
def converting(change: Callable[[Any, list[Any]], list[Any]]) -> Iterator[None]:
    """Let `from_pretrained` make parameters as `change` says.

    Args:
        change: is told a module and transformers' own conversions for it.
    """
    plain = modeling_utils.get_model_conversion_mapping

    def changed(module: Any, *args: Any, **kwargs: Any) -> list[Any]:
        return change(module, plain(module, *args, **kwargs))

    modeling_utils.get_model_conversion_mapping = changed
    try:
        yield
    finally:
        modeling_utils.get_model_conversion_mapping = plain
