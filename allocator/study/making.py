"""A study made once, by whichever of several processes comes first."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import DuplicatedStudyError

from allocator.core.clock import Clock
from allocator.core.errors import StudyError
from allocator.core.home import default_storage
from allocator.core.masking import masked
from allocator.study.identity import difference, parts_of
from allocator.study.outage import bridged
from allocator.study.storage import (
    alone,
    complete,
    file_of,
    open_storage,
    patience_with,
)
from allocator.study.unsent import Unsent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.storages import BaseStorage

IDENTITY, PARTS, LAYOUT = "identity", "identity parts", "layout"
# How this version keeps a study. It is counted up when what is kept changes so that an
# older version would misread it; what older ones kept is read.
VERSION = 1
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
        StudyError: one of that name measures something else, or is of a newer version.
    """
    storage = open_storage(url, timeout=timeout)
    patience = patience_with(url, timeout)

    def make() -> optuna.Study:
        with alone(file_of(url)):
            return _made(storage, name, identity)

    study = patience.opening(make)
    outlive(study, url, identity, timeout)
    return study


def outlive(
    study: optuna.Study, url: str | None, identity: str, timeout: float
) -> None:
    """Let a study outlive that its storage goes, and hand in what is kept of before.

    Args:
        study: opened, whose storage waits.
        url: of the storage, None for the default one.
        identity: digest of what makes its measurements comparable.
        timeout: how long to wait while the storage is locked or away, in seconds.

    Raises:
        StudyError: what is kept cannot be read, or not be written.
    """
    file = file_of(url)
    shown = masked(complete(url or default_storage()))
    place = shown if file is None else str(file.absolute())
    unsent = Unsent.of(study.study_name, place, identity)
    bridged(study, replace(patience_with(url, timeout), file=file), unsent)


def kept_with(study: optuna.Study) -> dict[str, Any]:
    """Everything kept with a study; studies of before kept it among the rest.

    Raises:
        StudyError: a newer version keeps it.
    """
    number, storage = study._study_id, study._storage
    found = {
        **storage.get_study_user_attrs(number),
        **storage.get_study_system_attrs(number),
    }
    check_layout(study.study_name, found)
    return found


def _made(storage: BaseStorage, name: str, identity: str) -> optuna.Study:
    try:
        study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize"
        )
        known = None
    except DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name)
        known = _known(study)
    number = study._study_id
    if known is None:
        for key, value in ((PARTS, parts_of(identity)), (LAYOUT, VERSION)):
            storage.set_study_system_attr(number, key, value)
        # whoever waits to know what the study measures waits for this
        storage.set_study_system_attr(number, IDENTITY, str(identity))
        return study
    if known[IDENTITY] != identity:
        raise StudyError(
            _another(name, difference(known.get(PARTS), parts_of(identity)))
        )
    if known.get(LAYOUT, 0) < VERSION:
        # from here on it holds what this version keeps
        storage.set_study_system_attr(number, LAYOUT, VERSION)
    return study


def _another(name: str, differs: str) -> str:
    """That a study measures something else: what, where it is known."""
    if differs:
        return f"study {name!r} measures {differs}: choose another --study"
    return (
        f"study {name!r} exists and measures another model, task, data, "
        "scheme, widths, methods or versions of them, granularity, parts to "
        "include, beams, re-ranking or seed, on another kind of device or in "
        "another type: choose another --study"
    )


def check_layout(name: str, kept: Mapping[str, Any]) -> None:
    """Refuse what a newer version keeps: it would be misread."""
    layout = kept.get(LAYOUT, 0)
    if layout > VERSION:
        raise StudyError(
            f"study {name!r} is kept as a newer version of allocate keeps studies "
            f"(layout {layout}; this one reads up to {VERSION}): use that version, or "
            "choose another --study"
        )


def _known(study: optuna.Study) -> dict[str, Any] | None:
    """What a study that was there before keeps; None where nobody says what of.

    Of all processes one makes a study, whatever keeps them apart, and says next what it
    measures. Whoever finds none of it waits for that, unless that process has ended.
    """
    clock = Clock()
    while (known := kept_with(study)).get(IDENTITY) is None:
        if study.get_trials(deepcopy=False):
            raise StudyError(
                f"study {study.study_name!r} exists and was made by another program: "
                "choose another --study"
            )
        if clock.seconds > NAMING:
            return None
        time.sleep(PAUSE)
    return known
