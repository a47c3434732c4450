"""Two explanations side by side."""

from __future__ import annotations

from typing import Any

import pytest

from allocator.explain.comparison import compare


def explained(name: str, **shares: tuple[float, float, float]) -> dict[str, Any]:
    """An explanation of groups alone: consensus and interval by name."""
    group = {
        key: {"consensus": share, "ci95": [low, high], "shap": share}
        for key, (share, low, high) in shares.items()
    }
    empty: dict[str, Any] = {"component": {}, "block_group": {}, "layer_type": {}}
    unreliable = dict.fromkeys((*empty, "group"))
    importance = {**empty, "group": group, "unreliable": unreliable}
    return {"study": name, "table": None, "importance": importance}


FIRST = explained("a", v=(60, 50, 70), q=(10, 5, 15), l=(30, 20, 40))
SECOND = explained("b", v=(20, 10, 30), q=(15, 8, 30), l=(65, 50, 80))


def test_shares_stand_beside_each_other_and_apart_where_intervals_do() -> None:
    found = compare(FIRST, SECOND)
    rows = {row["name"]: row for row in found["levels"]["group"]["rows"]}
    assert list(rows) == ["v", "q", "l"]
    assert rows["v"]["difference"] == -40
    assert [name for name, row in rows.items() if row["apart"]] == ["v", "l"]
    assert rows["q"]["first"] == {"consensus": 10, "ci95": [5, 15]}
    assert found["compared"] == [FIRST, SECOND]


def test_overlap_is_what_both_give_to_the_same_names() -> None:
    # the smaller shares: 20 of v, 10 of q, 30 of l
    assert compare(FIRST, SECOND)["levels"]["group"]["overlap"] == pytest.approx(60)
    same = compare(FIRST, FIRST)["levels"]["group"]
    assert same["overlap"] == pytest.approx(100)
    assert same["spearman"] == pytest.approx(1.0)
    # ranks 3, 1, 2 against 2, 1, 3
    other = compare(FIRST, SECOND)["levels"]["group"]
    assert other["spearman"] == pytest.approx(0.5)


def test_a_name_that_one_lacks_counts_as_disagreement() -> None:
    other = explained("c", v=(60, 50, 70), x=(40, 30, 50))
    level = compare(FIRST, other)["levels"]["group"]
    rows = {row["name"]: row for row in level["rows"]}
    assert rows["x"]["first"] is None
    assert rows["x"]["apart"] is None
    assert rows["q"]["second"] is None
    assert level["overlap"] == pytest.approx(60)
    # two shared names rank nothing
    assert level["spearman"] is None


def test_what_it_comes_to_is_said() -> None:
    said = compare(FIRST, SECOND)["sentences"]
    assert said == [
        "By group, they give 60 % of the importance alike (rank correlation 0.50); "
        "beyond the intervals they differ on v, l."
    ]
    assert "no difference is beyond" in compare(FIRST, FIRST)["sentences"][0]
    strangers = compare(FIRST, explained("d", x=(100, 90, 100)))
    assert strangers["sentences"] == ["By group, they have no name in common."]
    assert strangers["levels"]["group"]["overlap"] == pytest.approx(0)


def test_levels_that_one_lacks_are_left_out() -> None:
    assert list(compare(FIRST, SECOND)["levels"]) == ["group"]
