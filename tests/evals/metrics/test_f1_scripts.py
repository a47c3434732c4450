"""F1 of scripts that put no blanks between words."""

from __future__ import annotations

import pytest

from evals.metrics.f1 import f1


def test_letters_of_scripts_without_blanks_are_words() -> None:
    # four of five letters are the same
    assert f1("猫在桌子上", "猫在椅子上") == pytest.approx(80)
    assert f1("狗", "猫") == 0
    # two letters and one word
    assert f1("东京 tower", "东京") == pytest.approx(200 * 2 / 5)
