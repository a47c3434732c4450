"""Tensors as safetensors files, a shard at a time: no more than one is in memory.

`model.safetensors` where one file is enough, else `model-00001-of-0000N.safetensors`
with an index, as transformers names them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from safetensors.torch import save_file

from allocator.core.errors import SpecError
from allocator.core.memory import share
from allocator.families import INDEX, SINGLE
from allocator.families import tensor_bytes as tensor_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from torch import Tensor

# a shard is in memory while it is gathered
SHARD_BYTES = 10**9
# transformers asks what the tensors are for
METADATA = {"format": "pt"}


def write_shards(
    out: Path, tensors: Iterable[tuple[str, Tensor]], most: int | None = None
) -> int:
    """Write tensors in the order in which they come.

    Args:
        out: an empty folder that is there.
        tensors: name and value; read one by one, each name once.
        most: bytes of a shard; a tensor that is larger has one of its own. By default
            as many as is usual, or as memory allows.

    Returns:
        Bytes of all tensors.

    Raises:
        SpecError: a name comes twice, or there is not a single tensor.
    """
    names: list[list[str]] = []
    shard: dict[str, Tensor] = {}
    seen: set[str] = set()
    held = total = 0
    most = share(1 / 4, SHARD_BYTES) if most is None else most
    for name, tensor in tensors:
        if name in seen:
            raise SpecError(f"the tensor {name} would be written twice")
        seen.add(name)
        if shard and held + tensor.nbytes > most:
            names.append(_write(out, len(names), shard))
            shard, held = {}, 0
        shard[name] = tensor.contiguous()
        held += tensor.nbytes
        total += tensor.nbytes
    if not shard:
        raise SpecError(f"there are no tensors to write into {out}")
    names.append(_write(out, len(names), shard))
    _name(out, names, total)
    return total


def _write(out: Path, number: int, shard: dict[str, Tensor]) -> list[str]:
    """Write a shard under its number, and return the names of its tensors."""
    save_file(shard, out / _draft(number), metadata=METADATA)
    return list(shard)


def _draft(number: int) -> str:
    """Name of a shard while nobody knows how many there will be."""
    return f".shard-{number}"


def _name(out: Path, names: list[list[str]], total: int) -> None:
    """Give shards their names, and write the index if there are several."""
    if len(names) == 1:
        (out / _draft(0)).rename(out / SINGLE)
        return
    placed: dict[str, str] = {}
    for number, shard in enumerate(names):
        file = f"model-{number + 1:05}-of-{len(names):05}.safetensors"
        (out / _draft(number)).rename(out / file)
        placed |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    (out / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
