"""Trials of a study in Optuna: begun, measured under a lease, finished or given up."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from allocator.study.attributes import keep
from allocator.study.entry import FAILED, REASON, VALUES
from allocator.study.outage import tell
from allocator.study.owners import LEASE, OWNER, new_owner, owner_of, renewed
from allocator.study.per_sample import encode_scores
from allocator.study.pieces import score_of
from allocator.study.storage import user_and_system_attributes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from optuna.trial import FrozenTrial

    from allocator.core.allocation import Allocation
    from allocator.space.base import Space
    from allocator.study.database import Database
    from allocator.study.owners import Leases

RUNNING = (TrialState.RUNNING,)
# of a trial: another began before it on the same allocation, so that it never was
LOST = "begun before elsewhere"


@dataclass
class Trials:
    """The trials of a study, all read at once where its `database` is known here."""

    study: optuna.Study
    database: Database | None = None
    _are_ahead: bool = False

    def all(self, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
        """The trials in some states, by default in all, in order."""
        if self.database is not None and not self._are_ahead:
            self.database.get_all_trials_ahead()
            self._are_ahead = True
        return self.study.get_trials(deepcopy=False, states=states)


def add_trial(
    study: optuna.Study,
    space: Space,
    allocation: Allocation,
    state: TrialState,
    attributes: Mapping[str, Any],
) -> None:
    """Record an allocation whole, in one write."""
    about = {**attributes, "digest": allocation.digest}
    told, kept = user_and_system_attributes(about, space.bpw(allocation))
    trial = optuna.trial.create_trial(
        state=state,
        params=space.params(allocation),
        distributions=dict(space.distributions),
        user_attrs=told,
        system_attrs=kept,
    )
    study.add_trial(trial)


def begin_trial(
    trials: Trials,
    space: Space,
    allocation: Allocation,
    attributes: Mapping[str, Any],
) -> int:
    """Record that an allocation is being measured; returns the trial's number.

    One write, so that no half-described trial is ever left behind.
    """
    owner = str(new_owner())
    about = {**attributes, OWNER: owner, LEASE: time.time()}
    add_trial(trials.study, space, allocation, TrialState.RUNNING, about)
    running = trials.all(RUNNING)
    return next(t.number for t in running if t.system_attrs.get(OWNER) == owner)


def withdraw_trial(trials: Trials, number: int) -> None:
    """Close a trial that another one came before, as if it had not been begun."""
    trial, storage = trials.all()[number]._trial_id, trials.study._storage
    # others may have given it up already
    with suppress(UpdateFinishedTrialError):
        # from here on nobody counts it
        storage.set_trial_system_attr(trial, LOST, True)
        storage.set_trial_state_values(trial, FAILED)


@contextmanager
def at_work(trials: Trials, url: str, number: int) -> Iterator[None]:
    """Renew a trial's lease for as long as it is measured."""
    trial = trials.all()[number]
    with renewed(url, trial._trial_id, str(owner_of(trial))):
        yield


def complete_trial(
    trials: Trials, number: int, score: float, values: Sequence[float] | None
) -> None:
    """Record a trial's score, and that of each sample.

    One that others gave up meanwhile is recorded anew, unless they measured it since or
    are at it.
    """
    about: dict[str, Any] = {}
    if values is not None:
        keep(about.__setitem__, VALUES, encode_scores(values))

    def write() -> None:
        _complete(trials, number, score, about)

    tell(trials.study, score_of(number, score, about), write)


def _complete(
    trials: Trials, number: int, score: float, about: Mapping[str, Any]
) -> None:
    trial, storage = trials.all()[number], trials.study._storage
    try:
        for name, value in about.items():
            storage.set_trial_system_attr(trial._trial_id, name, value)
        storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [score])
    except UpdateFinishedTrialError:
        _complete_late(trials, trial, score, about)


def _complete_late(
    trials: Trials, trial: FrozenTrial, score: float, more: Mapping[str, Any]
) -> None:
    digest = trial.system_attrs["digest"]
    others = trials.all((TrialState.RUNNING, TrialState.COMPLETE))
    if any(t.system_attrs.get("digest") == digest and not is_lost(t) for t in others):
        return
    again = optuna.trial.create_trial(
        value=score,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs={**trial.system_attrs, **more},
    )
    trials.study.add_trial(again)


def fail_trial(trials: Trials, number: int, reason: str | None) -> None:
    """Give up a trial, for good where a reason is given."""
    if reason is not None:
        trial = trials.all()[number]._trial_id
        # others may have given it up already
        with suppress(UpdateFinishedTrialError):
            trials.study._storage.set_trial_user_attr(trial, REASON, reason)
    trials.study.tell(number, state=FAILED, skip_if_finished=True)


def release_dead(trials: Trials, leases: Leases) -> list[int]:
    """Give up running trials whose owner is dead; returns the numbers of these.

    Of several processes that see it, one gives up each.
    """
    storage, given_up = trials.study._storage, []
    for trial in trials.all(RUNNING):
        if not leases.is_dead(trial):
            continue
        try:
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            continue
        given_up.append(trial.number)
    return given_up


def unknown_trials(trials: Trials, leases: Leases) -> list[FrozenTrial]:
    """Running trials of which it is not known yet whether anybody works on them."""
    running = [trial for trial in trials.all(RUNNING) if not is_lost(trial)]
    return [t for t in running if not leases.is_dead(t) and not leases.is_alive(t)]


def is_lost(trial: FrozenTrial) -> bool:
    """Whether another trial came before it, so that it is none."""
    return LOST in trial.system_attrs
