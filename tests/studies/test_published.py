"""What the published tables say, and that the sweep is read as it was asked for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allocator.explain.importance import importance

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "studies" / "published"
PARAMETERS = 3_744_761_856


@pytest.fixture(scope="module")
def sweep() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    import sweep as module

    yield module
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def runs(sweep: Any) -> Any:
    return sweep.read()


def test_the_sweep_has_629_models_and_six_dead_knobs(runs: Any) -> None:
    assert len(runs.scores) == 1500
    assert runs.models.sum() == 629
    assert set(runs.dead) == {
        *(f"qformer_{part}_ff" for part in ("front", "middle", "last")),
        *(f"llm_{part}_attn" for part in ("front", "middle", "last")),
    }


def test_equal_models_gave_equal_captions_whatever_was_asked(runs: Any) -> None:
    several = runs.repeated
    assert len(several) == 328
    assert sum(len(set(runs.patterns[each])) > 1 for each in several) == 303
    for each in several:
        assert len(set(runs.same_captions[each])) == 1
        assert np.ptp(runs.scores[each]) == 0


@pytest.mark.parametrize("believed", [True, False])
def test_bits_give_the_sizes_of_the_file(sweep: Any, runs: Any, believed: bool) -> None:
    bits, bpw = runs.applied, runs.bpw
    if believed:
        bits, bpw = runs.requested, runs.bpw_requested
    weights = sweep.weights(bits, bpw)
    again = 16 - (16 - bits) @ weights / PARAMETERS
    np.testing.assert_allclose(again, bpw, atol=1e-8)
    # OPT's feed-forward layers: two matrices of 2,560 x 10,240 in each of 32 blocks
    opt = [w for key, w in zip(sweep.KEYS, weights, strict=True) if key[:3] == "llm"]
    feed_forward = sum(opt[1::2])
    assert feed_forward == pytest.approx(32 * 2 * 2560 * 10240, rel=1e-6)


def test_what_was_applied_is_what_was_asked_where_the_knob_worked(runs: Any) -> None:
    dead = np.isin(np.array(runs.evidence(believed=True).keys), runs.dead)
    np.testing.assert_array_equal(runs.applied[:, ~dead], runs.requested[:, ~dead])
    assert (runs.applied[:, dead] == 16).all()


@pytest.mark.slow
@pytest.mark.nightly
def test_dead_knobs_matter_nothing_and_are_named(runs: Any) -> None:
    found = importance(runs.evidence(believed=False))
    assert set(found["constant"]) == set(runs.dead)
    assert all(found["group"][name]["consensus"] == 0 for name in runs.dead)
    believed = importance(runs.evidence(believed=True))
    assert believed["constant"] == []
    assert all(believed["group"][name]["consensus"] > 0 for name in runs.dead)
