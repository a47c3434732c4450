"""optuna-dashboard on the studies that are on disk."""

from __future__ import annotations

import socket
from importlib.util import find_spec
from typing import TYPE_CHECKING

from allocator.core.errors import SpecError, StudyError
from allocator.core.home import default_storage
from allocator.core.masking import masked
from allocator.study.storage import open_storage, study_names

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "127.0.0.1"


def serve(storage: str | None, port: int, say: Callable[[str], object]) -> None:
    """Show the studies of a storage in a browser, until interrupted.

    Args:
        storage: URL of the studies, None for the default.
        port: of this machine.
        say: is told the address.

    Raises:
        SpecError: optuna-dashboard is not installed, or the port cannot be had.
        StudyError: there is no study to show.
    """
    if find_spec("optuna_dashboard") is None:
        raise SpecError(
            "optuna-dashboard is not installed: pip install 'allocate-vlm[dashboard]'"
        )
    names, url = study_names(storage), masked(storage or default_storage())
    if not names:
        raise StudyError(f"there is no study in {url} yet: allocate --budget 4.0 ...")
    _check_port(port)
    from optuna_dashboard import run_server

    say(f"{len(names)} studies at http://{HOST}:{port} (Ctrl-C ends it)")
    try:
        run_server(open_storage(storage), host=HOST, port=port)
    except KeyboardInterrupt:
        return


def _check_port(port: int) -> None:
    """Refuse a port that is none, or is taken."""
    if not 0 < port < 2**16:
        raise SpecError(f"a port is a number from 1 to 65535, not {port}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise SpecError(
                f"port {port} cannot be had ({error.strerror}): choose another --port"
            ) from None
