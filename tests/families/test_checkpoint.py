"""What every family reads of a checkpoint's folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from allocator.families._checkpoint import read_prompts

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHED = {"vqa": "Question: {} Answer:", "gqa": "Question: {} Short answer:"}


@pytest.mark.parametrize(
    ("own", "gqa"),
    [
        ({}, "Question: {} Short answer:"),
        ({"caption": "a"}, "Question: {} Short answer:"),
        ({"vqa": "{}?"}, "{}?"),
        ({"vqa": "{}?", "gqa": "{}!"}, "{}!"),
    ],
)
def test_the_words_for_vqa_serve_for_gqa_where_a_folder_brings_no_others(
    own: dict[str, str], gqa: str, tmp_path: Path
) -> None:
    if own:
        (tmp_path / "prompts.json").write_text(json.dumps(own))
    assert read_prompts(tmp_path, PUBLISHED)["gqa"] == gqa
