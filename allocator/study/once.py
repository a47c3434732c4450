"""Writes of trials that happen once, however often a server goes away meanwhile.

A server may have done what it was told before the connection to it was lost. So each
trial is added under a token of its own, by which it is found again; and a trial that
has the state already that it is to get was given it.
"""

from __future__ import annotations

import copy
import json
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna.trial import FrozenTrial, TrialState

    from allocator.study.patience import Patience

# of a trial: the token under which it was added
WRITTEN = "written as"
# of a storage that stands around one of Optuna's
RAW = "raw"


class Database(RDBStorage):
    """Optuna's, which adds a trial up to five times, whatever became of the first."""

    _tried: str | None = None

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Any
    ) -> Any:
        """A row of a trial; the one that is there, where it was written before."""
        about = {} if template_trial is None else template_trial.system_attrs
        token = about.get(WRITTEN)
        if token and token == self._tried:
            trial, kept = models.TrialModel, models.TrialSystemAttributeModel
            found = (
                session.query(trial)
                .join(kept, kept.trial_id == trial.trial_id)
                .filter(trial.study_id == study_id, kept.key == WRITTEN)
                .filter(kept.value_json == json.dumps(token))
                .first()
            )
            if found is not None:
                return found
        self._tried = token
        return super()._get_prepared_new_trial(study_id, template_trial, session)


def patient_storage(storage: BaseStorage, patience: Patience) -> BaseStorage:
    """The same storage, every call of which waits while it is locked or away.

    What may not happen twice happens once.
    """
    calls: dict[str, Callable[..., Any]] = {
        name: patience.patient(getattr(storage, name)) for name in calls_of()
    }
    calls["create_new_trial"] = _adds(storage, patience)
    calls["set_trial_state_values"] = patience.patient(
        storage.set_trial_state_values, _is_so(storage)
    )
    return storage_of("PatientStorage", calls, storage)


def calls_of() -> list[str]:
    """Names of all calls of a storage."""
    return [name for name in dir(BaseStorage) if not name.startswith("_")]


def storage_of(
    name: str, calls: dict[str, Callable[..., Any]], around: BaseStorage
) -> BaseStorage:
    """A storage made of calls that stand around those of another."""
    made: dict[str, Any] = {n: staticmethod(call) for n, call in calls.items()}
    found: BaseStorage = type(name, (BaseStorage,), {**made, RAW: raw_of(around)})()
    return found


def raw_of(storage: BaseStorage) -> BaseStorage:
    """Optuna's own storage, which waits for nothing."""
    return getattr(storage, RAW, storage)


def _adds(storage: BaseStorage, patience: Patience) -> Callable[..., int]:
    """Adds a trial; one that says nothing of itself cannot be found again."""

    def added(study_id: int, template_trial: FrozenTrial) -> int | None:
        token = template_trial.system_attrs[WRITTEN]
        found = written_as(token, storage.get_all_trials(study_id, deepcopy=False))
        return None if found is None else found._trial_id

    plain = patience.patient(storage.create_new_trial)
    marked = patience.patient(storage.create_new_trial, added)

    def create_new_trial(
        study_id: int, template_trial: FrozenTrial | None = None
    ) -> int:
        if template_trial is None:
            return plain(study_id)
        trial = copy.copy(template_trial)
        trial.system_attrs = {**trial.system_attrs, WRITTEN: token_hex(8)}
        return marked(study_id, trial)

    return create_new_trial


def written_as(token: str | None, trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial that was added under a token."""
    found = (t for t in trials if token and t.system_attrs.get(WRITTEN) == token)
    return next(found, None)


def _is_so(storage: BaseStorage) -> Callable[..., bool | None]:
    """Tells whether a trial was given its last state."""

    def happened(
        trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool | None:
        now = storage.get_trial(trial_id)
        same = values is None or now.values == list(values)
        return True if state.is_finished() and now.state == state and same else None

    return happened
