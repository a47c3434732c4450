"""Tensors become shards that safetensors and transformers read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file

from allocator.core.errors import SpecError
from allocator.exporters._shards import INDEX, SINGLE, tensor_bytes, write_shards

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_what_fits_is_one_file_without_an_index(tmp_path: Path) -> None:
    made = {"b": torch.arange(6).view(2, 3), "a": torch.ones(3, dtype=torch.float16)}
    # 6 * 8 + 3 * 2 bytes
    assert write_shards(tmp_path, made.items()) == 54
    assert [file.name for file in tmp_path.iterdir()] == [SINGLE]
    read = load_file(tmp_path / SINGLE)
    assert read.keys() == made.keys()
    assert all(torch.equal(read[name], made[name]) for name in made)
    assert tensor_bytes(tmp_path) == 54


def test_shards_are_filled_in_order_and_listed(tmp_path: Path) -> None:
    made = [(name, torch.full((4,), float(n))) for n, name in enumerate("dcba")]
    # 16 bytes each: two fit into 40
    assert write_shards(tmp_path, made, most=40) == 64
    index = json.loads((tmp_path / INDEX).read_text())
    first, second = (
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    )
    assert index == {
        "metadata": {"total_size": 64},
        "weight_map": {"d": first, "c": first, "b": second, "a": second},
    }
    assert load_file(tmp_path / second)["a"].tolist() == [3.0] * 4
    assert sorted(f.name for f in tmp_path.iterdir()) == [first, second, INDEX]
    assert tensor_bytes(tmp_path) == 64


def test_a_tensor_larger_than_a_shard_has_one_of_its_own(tmp_path: Path) -> None:
    made = [("a", torch.ones(1)), ("b", torch.ones(100)), ("c", torch.ones(1))]
    write_shards(tmp_path, made, most=40)
    placed = json.loads((tmp_path / INDEX).read_text())["weight_map"]
    assert len(set(placed.values())) == 3


def test_no_more_tensors_are_asked_for_than_a_shard_holds(tmp_path: Path) -> None:
    def made() -> Iterator[tuple[str, torch.Tensor]]:
        for n in range(4):
            # when the third is asked for, the first two lie on disk at the latest
            # after it: a shard is written before the next but one begins
            assert len(list(tmp_path.iterdir())) >= n - 1
            yield str(n), torch.ones(10)

    write_shards(tmp_path, made(), most=40)


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    made = [("a", torch.ones(1)), ("a", torch.ones(1))]
    with pytest.raises(SpecError, match="tensor a would be written twice"):
        write_shards(tmp_path, made)


def test_nothing_to_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no tensors"):
        write_shards(tmp_path, [])
