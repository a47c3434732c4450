"""Which groups may be left alone: those that are planted to do nothing."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.importance import analyse
from surrogate.measures import QUICK
from surrogate.narrowing import minor

NAMES = ("loud", "fair", "quiet", "silent", "mute")
EFFECTS = np.array([8.0, 7.0, 7.0, 0.0, 0.0])


def planted(seed: int, rows: int = 150) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    bits = rng.choice((2, 3, 4), size=(rows, len(NAMES))).astype(float)
    return bits, bits @ EFFECTS + rng.normal(0, 0.5, rows)


@pytest.mark.parametrize("seed", range(3))
def test_what_does_nothing_is_minor_and_nothing_else(seed: int) -> None:
    found = minor(analyse(*planted(seed), NAMES, effort=QUICK))
    assert {each.name for each in found} == {"silent", "mute"}
    for each in found:
        assert 0 <= each.share <= each.upper < 20
        assert each.reason.endswith("an even share is 20.0 %.")


def test_of_noise_nothing_is_minor() -> None:
    bits, _ = planted(0)
    noise = np.random.default_rng(1).normal(size=len(bits))
    assert minor(analyse(bits, noise, NAMES, effort=QUICK)) == ()


def test_two_names_are_always_left() -> None:
    bits, _ = planted(0)
    scores = bits[:, 0] * 5.0
    found = minor(analyse(bits, scores, NAMES, effort=QUICK))
    assert len(found) == len(NAMES) - 2
    assert "loud" not in {each.name for each in found}


def test_what_never_varied_is_not_called_minor() -> None:
    bits, scores = planted(0)
    bits[:, 3] = 2
    found = minor(analyse(bits, scores, NAMES, effort=QUICK))
    assert {each.name for each in found} == {"mute"}
