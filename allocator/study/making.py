"""A study made once, by whichever of several processes comes first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import DuplicatedStudyError

from allocator.core.clock import Clock
from allocator.core.errors import StudyError
from allocator.study.storage import alone, file_of, open_storage, patience_with

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

IDENTITY = "identity"
# seconds: a process that made a study says at once what it measures; of pauses
NAMING, PAUSE = 2.0, 0.02


def make_study(
    url: str | None, name: str, identity: str, timeout: float
) -> optuna.Study:
    """The study of a name, made first if it is new.

    Args:
        url: of the storage, None for the default one.
        name: the study's.
        identity: digest of what makes its measurements comparable.
        timeout: how long to wait while the storage is locked, in seconds.

    Raises:
        StudyError: one of that name measures something else.
    """
    storage = open_storage(url, timeout=timeout)

    def make() -> optuna.Study:
        with alone(file_of(url)):
            return _made(storage, name, identity)

    return patience_with(url, timeout).opening(make)


def kept_with(study: optuna.Study) -> dict[str, Any]:
    """Everything kept with a study; studies of before kept it among the rest."""
    number, storage = study._study_id, study._storage
    return {
        **storage.get_study_user_attrs(number),
        **storage.get_study_system_attrs(number),
    }


def _made(storage: BaseStorage, name: str, identity: str) -> optuna.Study:
    try:
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize"
        )
        known = None
    except DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name)
        known = _known(study)
    if known is None:
        study._storage.set_study_system_attr(study._study_id, IDENTITY, identity)
        known = identity
    if known != identity:
        raise StudyError(
            f"study {name!r} exists and measures another model, task, data, "
            "scheme, widths, methods or versions of them, granularity, parts to "
            "include, beams, re-ranking or seed, on another kind of device or in "
            "another type: choose another --study"
        )
    return study


def _known(study: optuna.Study) -> str | None:
    """What a study that was there before measures; None where nobody says so.

    Of all processes one makes a study, whatever keeps them apart, and says next what it
    measures. Whoever finds none of it waits for that, unless that process has ended.
    """
    clock = Clock()
    while (known := kept_with(study).get(IDENTITY)) is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(
                f"study {study.study_name!r} exists and was made by another program: "
                "choose another --study"
            )
        if clock.seconds > NAMING:
            return None
        time.sleep(PAUSE)
    return str(known)
