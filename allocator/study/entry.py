"""A trial as this program reads it, and what it is to have failed for good.

A score that is no finite number is none: the allocation was measured, and nobody tries
it again. Studies of before may keep such scores; their trials are read as failed ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from allocator.study.attributes import kept_under
from allocator.study.per_sample import decode_scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.trial import FrozenTrial

    from allocator.core.allocation import Allocation

FAILED, PASSED = TrialState.FAIL, TrialState.PRUNED
# attributes of a trial
REASON, VALUES = "reason of failure", "score of each sample"
# of a trial, and of those it raced with: chance chose them, no look did
CONTROL = "control"


@dataclass(frozen=True)
class Entry:
    """A trial of a study, its parameters read as an allocation.

    One that is superseded (`allocator.study.in_place`) has no score; `past` is the one
    it had.
    """

    allocation: Allocation
    digest: str
    state: TrialState
    score: float | None
    about: Mapping[str, Any]
    number: int
    superseded: bool = False
    past: float | None = None

    @property
    def failure(self) -> str | None:
        """Why what was measured has no score; None where it has one, or may get it."""
        if self.superseded or self.state != FAILED:
            return None
        return self.about.get(REASON)

    @property
    def counts(self) -> bool:
        """Whether it was measured, or is being; what was given up may be tried again.

        So may what was passed over, and what is superseded.
        """
        if self.superseded:
            return False
        return self.state not in (FAILED, PASSED) or self.failure is not None


def entry_of(trial: FrozenTrial, allocation: Allocation, digest: str) -> Entry:
    """A trial of Optuna's, whose parameters are an allocation."""
    about = about_of(trial)
    if trial.state != TrialState.COMPLETE:
        return Entry(allocation, digest, trial.state, None, about, trial.number)
    score = trial.values[0]
    values = decode_scores(kept_under(VALUES, about)) if VALUES in about else ()
    if (reason := not_finite(score, values)) is None:
        return Entry(allocation, digest, trial.state, score, about, trial.number)
    if about.get("kind") != "full":
        # without full precision there is no search: that may be tried again
        about[REASON] = reason
    return Entry(allocation, digest, FAILED, None, about, trial.number)


def about_of(trial: FrozenTrial) -> dict[str, Any]:
    """What is known of a trial; those of before kept it in one place."""
    return {**trial.user_attrs, **trial.system_attrs}


def not_finite(
    mean: float, values: Sequence[float], names: Sequence[str] = ()
) -> str | None:
    """Why a score is none, in words behind its owner's name; None where it is one.

    Args:
        mean: the score.
        values: that of each sample.
        names: of the samples.

    >>> not_finite(math.nan, [1.0, math.nan], ["q1", "q2"])
    'scores no finite number on 1 of 2 samples, such as q2'
    """
    bad = [at for at, value in enumerate(values) if not math.isfinite(value)]
    if bad:
        such = f", such as {names[bad[0]]}" if names else ""
        return f"scores no finite number on {len(bad)} of {len(values)} samples{such}"
    return None if math.isfinite(mean) else f"scores {mean:g}, which is no number"
