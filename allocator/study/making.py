"""A study made once, by whichever of several processes comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import optuna

from allocator.core.errors import StudyError
from allocator.study.storage import alone, file_of, open_storage, patience_with

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

IDENTITY = "identity"


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
    study = optuna.create_study(
        storage=storage, study_name=name, direction="maximize", load_if_exists=True
    )
    known = kept_with(study).get(IDENTITY)
    if known is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(
                f"study {name!r} exists and was made by another program: choose "
                "another --study"
            )
        study._storage.set_study_system_attr(study._study_id, IDENTITY, identity)
        # where nothing keeps two processes apart, the first one counts
        known = kept_with(study)[IDENTITY]
    if known != identity:
        raise StudyError(
            f"study {name!r} exists and measures another model, task, data, "
            "scheme, widths, methods, granularity, parts to include, beams, "
            "re-ranking or seed: choose another --study"
        )
    return study
