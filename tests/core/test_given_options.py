from __future__ import annotations

from pathlib import Path

import pytest

from allocator.core.errors import SpecError
from allocator.core.options import given_options
from allocator.core.own import named_columns


@pytest.mark.parametrize(
    "given",
    [
        {"question": "prompt", "answers": "label"},
        ["question=prompt", "answers=label"],
        "question=prompt,answers=label",
        "question = prompt, answers = label",
    ],
)
def test_columns_are_given_in_whatever_way_is_at_hand(given: object) -> None:
    found = given_options({"columns": given, "data": Path("shop"), "metric": None})
    assert named_columns(found["columns"]) == {"question": "prompt", "answers": "label"}
    assert found["data"] == "shop"
    assert "metric" not in found


@pytest.mark.parametrize("given", ["question", "=prompt", "a=b,a=c", {"": "x"}])
def test_columns_that_name_nothing_are_refused(given: object) -> None:
    with pytest.raises(SpecError, match=r"columns are given as question=prompt"):
        named_columns(given_options({"columns": given})["columns"])
