"""Storages on disk: databases and files that hold studies, in Optuna."""

from __future__ import annotations

import fcntl
import os
import re
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.storages import JournalStorage, get_storage
from sqlalchemy.engine import make_url

from allocator.core.errors import StudyError
from allocator.core.home import default_storage
from allocator.core.masking import HIDDEN, given, masked, remember
from allocator.core.study import STORAGE_TIMEOUT
from allocator.study.log_file import LogFile
from allocator.study.once import WRITTEN, Database, patient_storage
from allocator.study.patience import Patience
from allocator.study.proxy import SCHEME, proxy_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna.storages import BaseStorage

    from allocator.core.study import StudySpec

# what of a trial is for this program alone; the rest has names that a person reads
INTERNAL = ("digest", "applied", "owner", "lease", "budget", "limit", WRITTEN)
SIZE, LIMIT = "bits per weight", "budget in bits per weight"
OVER = "bits per weight over the budget"

# how the companion of a study is named in which processes meet; no study may be
BOARD = " (at work)"
# a name that ends so is a file that only grows, and no database
LOG = ".log"
# seconds that SQLite waits for a lock in one go
SQLITE_WAITS = 1.0
# what PostgreSQL's drivers are told: seconds to connect, and after which a server that
# says nothing any more is taken for gone (in milliseconds, the last one)
CONNECTING = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}

optuna.logging.set_verbosity(optuna.logging.ERROR)


def default_name(asked: StudySpec, identity: str) -> str:
    """Name of a study that was not given one: model, task, what it measures."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(asked.model).name).strip("-")
    task = re.sub(r"[^A-Za-z0-9]+", "-", asked.task).strip("-")
    target = "" if asked.target == "none" else f"-{asked.target}"
    return f"{stem[:40] or 'model'}-{task[:40]}{target}-{identity}"


def open_storage(
    url: str | None, *, create: bool = True, timeout: float = STORAGE_TIMEOUT
) -> Any:
    """Optuna's storage behind a URL; None is the default one.

    Args:
        url: of a database, or the name of a file that ends in .log.
        create: whether to make it where there is none.
        timeout: how long to wait while another program holds it, in seconds.

    Raises:
        StudyError: a URL that no storage understands or can reach; so does every later
            call of the storage that fails.
    """
    url = complete(url or default_storage())
    patience = patience_with(url, timeout)
    file = patience.opening(lambda: file_of(url))
    if file is not None:
        _check_file(file, patience.name, create=create)
    storage = patience.opening(lambda: _opened(url, file))
    return patient_storage(storage, replace(patience, file=file))


def patience_with(url: str | None, timeout: float) -> Patience:
    """How a storage is waited for."""
    return Patience(remember(complete(url or default_storage())), timeout)


def _opened(url: str, file: Path | None) -> BaseStorage:
    if url.endswith(LOG):
        return JournalStorage(LogFile(Path(url)))
    if url.startswith(SCHEME):
        return proxy_at(url)
    # SQLite waits on its own, but deaf to Ctrl-C; servers may close an idle connection
    options: dict[str, Any] = {"pool_pre_ping": True}
    found = make_url(url)
    if found.get_backend_name() == "sqlite":
        options = {"connect_args": {"timeout": SQLITE_WAITS}}
    elif found.get_driver_name() in ("psycopg", "psycopg2"):
        # the URL may say otherwise
        told = {k: v for k, v in CONNECTING.items() if k not in found.query}
        options["connect_args"] = told
    with alone(file), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # in front of a database Optuna keeps what does not change any more
        return get_storage(Database(url, engine_kwargs=options))


@contextmanager
def alone(file: Path | None) -> Iterator[None]:
    """Hold the folder of a storage's file: one process at a time makes what is shared.

    Optuna makes tables in many steps, and of two processes at it one fails. The lock
    ends with the process. File systems without locks, and servers, have to do without:
    there who comes second tries again.

    Raises:
        BlockingIOError: another process holds it.
    """
    try:
        folder = None if file is None else os.open(file.parent, os.O_RDONLY)
    except OSError:
        # whoever opens the file will say what is wrong
        folder = None
    if folder is None:
        yield
        return
    try:
        _lock(folder)
        yield
    finally:
        os.close(folder)


def _lock(folder: int) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        # no locks here
        return


def file_of(url: str | None) -> Path | None:
    """The file behind a URL, if it is one; None is the default storage."""
    url = complete(url or default_storage())
    if url.endswith(LOG):
        return Path(url)
    found = make_url(url)
    name = found.database or ""
    if found.get_backend_name() != "sqlite" or name in ("", ":memory:"):
        return None
    # SQLite reads such names itself
    return None if name.startswith("file:") else Path(name)


def complete(url: str) -> str:
    """A URL as it was given, where it is one that this process has shown.

    Raises:
        StudyError: it is one that another has shown, without its password.
    """
    if HIDDEN in url and given(url) is None:
        raise StudyError(
            f"storage {url!r} has its password left out: put it in place of {HIDDEN}"
        )
    return given(url) or url


def without_password(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data with a storage among it, as a study keeps it."""
    url = asked.get("storage")
    return dict(asked) if url is None else {**asked, "storage": masked(url)}


def _check_file(file: Path, name: str, *, create: bool) -> None:
    """Make the folder of a storage that is a file; reading never makes the file."""
    if not create and not file.exists():
        raise StudyError(f"there is no study in {name}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StudyError(f"storage {name!r} cannot be opened: {error}") from None
    if file.is_dir():
        raise StudyError(f"storage {name!r} cannot be opened: it is a folder")


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


def study_names(url: str | None, timeout: float = STORAGE_TIMEOUT) -> list[str]:
    """Names of the studies in a storage; none where it does not exist yet."""
    if url is None:
        file = file_of(url)
        if file is not None and not file.exists():
            return []
    storage = open_storage(url, create=False, timeout=timeout)
    found = optuna.get_all_study_names(storage)
    return sorted(name for name in found if not name.endswith(BOARD))
