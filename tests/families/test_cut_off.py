"""Replies that end at the limit of new tokens, and not by themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from allocator.core.ports import Decoding
from allocator.families._pipeline import cut_off

# 0 and 2 are special tokens, 50 and 51 are ends by the configurations alone
TOKENIZER = SimpleNamespace(all_special_ids=[0, 2])


def module(end: Any, inner: Any = None) -> Any:
    language = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=inner))
    config = SimpleNamespace(eos_token_id=end)
    return SimpleNamespace(generation_config=config, language_model=language)


@pytest.mark.parametrize(
    ("rows", "cut"),
    [
        ([[7, 8, 9], [7, 8, 2], [7, 2, 0]], 1),
        ([[7, 8, 50], [7, 8, 51], [7, 8, 9]], 1),
        ([[7, 8, 9], [9, 8, 7]], 2),
        # none reached the limit
        ([[7, 2], [7, 8]], 0),
    ],
)
def test_a_reply_without_an_end_is_cut_off(rows: list[list[int]], cut: int) -> None:
    found = cut_off(module([50], 51), TOKENIZER, torch.tensor(rows), Decoding(3))
    assert found == cut


def test_a_model_that_names_no_end_has_those_of_its_tokenizer() -> None:
    ids = torch.tensor([[7, 2], [7, 8]])
    assert cut_off(module(None), TOKENIZER, ids, Decoding(2)) == 1
    plain = SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=8))
    assert cut_off(plain, TOKENIZER, ids, Decoding(2)) == 0
