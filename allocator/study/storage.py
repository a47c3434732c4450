"""Storages on disk: databases and files that hold studies, in Optuna."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages.journal import JournalFileBackend

from allocator.core.errors import StudyError, first_line
from allocator.core.home import default_storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from allocator.core.study import StudySpec

# what of a trial is for this program alone; the rest has names that a person reads
INTERNAL = ("digest", "applied", "owner", "budget", "limit")
SIZE, LIMIT = "bits per weight", "budget in bits per weight"
OVER = "bits per weight over the budget"

optuna.logging.set_verbosity(optuna.logging.ERROR)


def default_name(asked: StudySpec, identity: str) -> str:
    """Name of a study that was not given one: model, task, what it measures."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(asked.model).name).strip("-")
    task = re.sub(r"[^A-Za-z0-9]+", "-", asked.task).strip("-")
    return f"{stem[:40] or 'model'}-{task[:40]}-{identity}"


def open_storage(url: str | None, *, create: bool = True) -> Any:
    """Optuna's storage behind a URL; None is the default one.

    Raises:
        StudyError: a URL that no storage understands or can reach.
    """
    url = url or default_storage()
    _check_file(url, create=create)
    try:
        if url.endswith(".log"):
            backend = JournalFileBackend(url)
            return optuna.storages.JournalStorage(backend)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.storages.RDBStorage(url)
    except Exception as error:
        # the drivers raise whatever they like for a URL they cannot use
        reason = first_line(error)
        raise StudyError(
            f"storage {url!r} cannot be opened ({reason}); "
            "take a database URL such as sqlite:///studies.db, or a file FILE.log"
        ) from None


def _check_file(url: str, *, create: bool) -> None:
    """Make the folder of a storage that is a file; reading never makes the file."""
    is_file = url.endswith(".log") or url.startswith("sqlite:///")
    if not is_file or url == "sqlite:///:memory:":
        return
    file = Path(url.removeprefix("sqlite:///"))
    if not create and not file.exists():
        raise StudyError(f"there is no study in {url}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"storage {url!r} cannot be opened: {error}") from None


def user_and_system_attributes(
    about: Mapping[str, Any], size: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a trial shows to people, and what it keeps for this program alone.

    Args:
        about: all attributes.
        size: bits per weight.
    """
    told = {name: about[name] for name in about if name not in INTERNAL}
    kept = {name: about[name] for name in about if name in INTERNAL}
    told[SIZE] = size
    if limit := about.get("limit"):
        told |= {LIMIT: limit, OVER: size - limit}
        # the only form that optuna-dashboard reads too
        kept["constraints"] = [size - limit]
    return told, kept


def name_metric(study: optuna.Study, metric: str) -> None:
    """Name what trials are scored by, for plots and dashboards."""
    with warnings.catch_warnings():
        # experimental, Optuna says
        warnings.simplefilter("ignore")
        study.set_metric_names([metric])


def study_names(url: str | None) -> list[str]:
    """Names of the studies in a storage; none where it does not exist yet."""
    try:
        storage = open_storage(url, create=False)
    except StudyError:
        if url is None:
            return []
        raise
    return sorted(optuna.get_all_study_names(storage))
