from __future__ import annotations

import pytest

from allocator.core.errors import (
    AllocateError,
    BudgetError,
    NotReachedError,
    ReplyError,
    SpecError,
    StudyError,
    UnknownNameError,
)


def test_an_unknown_name_is_answered_with_the_known_ones_in_order() -> None:
    error = UnknownNameError("task", "xyz", {"vqav2", "coco", "gqa"})
    assert str(error) == "no task 'xyz' (known: coco, gqa, vqav2)."


def test_a_misspelt_name_is_answered_with_the_near_miss() -> None:
    error = UnknownNameError("task", "vqa2", ["vqav2", "coco"])
    assert str(error).endswith("Did you mean 'vqav2'?")


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (SpecError, ValueError),
        (BudgetError, ValueError),
        (ReplyError, ValueError),
        (UnknownNameError, KeyError),
    ],
)
def test_an_error_is_caught_by_the_builtin_it_refines_too(
    error: type[AllocateError], builtin: type[Exception]
) -> None:
    assert issubclass(error, builtin)
    assert issubclass(error, AllocateError)


def test_only_a_goal_that_was_not_reached_ends_with_code_three() -> None:
    assert NotReachedError.exit_code == 3
    assert {SpecError.exit_code, StudyError.exit_code, BudgetError.exit_code} == {2}
