"""That the benchmark of scoring compares what is equal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from quant.grid import LOW_WIDTHS
from tests.bench import bench_scoring

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_random_llava_says_the_same_from_fewer_tokens(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    asked = ["--only", "random-llava", "swaps", "--tiny", "--pictures", "2"]
    bench_scoring.main([*asked, "--out", str(out)])
    found = json.loads(out.read_text())
    loop, *scored = found["scoring"]
    # 5.4 questions a picture
    assert (loop["samples"], loop["pictures"]) == (11, 2)
    assert [row["differing"] for row in scored] == [0, 0]
    assert all(row["tokens"] < loop["tokens"] for row in scored)
    assert [row["bits"] for row in found["swaps"]] == [*LOW_WIDTHS, 16]
    assert all(row["again"] > 0 for row in found["swaps"])
