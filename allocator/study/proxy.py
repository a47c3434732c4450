"""Optuna's gRPC proxy: a database that hundreds of clients reach through one server.

Its server is `optuna.storages.run_grpc_proxy_server`; the URL is grpc://HOST:PORT.
"""

from __future__ import annotations

import re
import warnings
from functools import wraps
from typing import TYPE_CHECKING, Any

from allocator.core.errors import StudyError
from allocator.study.once import calls_of, storage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from optuna.storages import BaseStorage

SCHEME = "grpc://"


def proxy_at(url: str) -> BaseStorage:
    """The storage behind a URL such as grpc://studies:13000.

    What the connection fails by is a ConnectionError, which is waited out as that of a
    database (`allocator.study.patience`).

    Raises:
        StudyError: another form of URL, or grpcio is not installed.
    """
    found = re.fullmatch(r"grpc://([\w.-]+):(\d{1,5})/?", url)
    if found is None:
        raise StudyError(f"storage {url!r} is not of the form grpc://HOST:PORT")
    try:
        import grpc  # type: ignore[import-untyped]
        from optuna.storages import GrpcStorageProxy
    except ImportError:
        raise StudyError(
            f"storage {url!r} needs grpcio, which is not installed: pip install "
            "grpcio protobuf"
        ) from None
    with warnings.catch_warnings():
        # experimental, Optuna says
        warnings.simplefilter("ignore")
        storage = GrpcStorageProxy(host=found[1], port=int(found[2]))
    calls = {name: _plain(getattr(storage, name), grpc.RpcError) for name in calls_of()}
    return storage_of("ProxyStorage", calls, storage)


def _plain(call: Callable[..., Any], failure: type[Exception]) -> Callable[..., Any]:
    @wraps(call)
    def made(*given: Any, **more: Any) -> Any:
        try:
            return call(*given, **more)
        except failure as error:
            code = getattr(error, "code", lambda: None)()
            name = getattr(code, "name", "")
            told = str(getattr(error, "details", lambda: "")() or error)
            # by these words it is waited for
            away = "connection refused: " if name == "UNAVAILABLE" else ""
            raise ConnectionError(f"{away}{told}") from None

    return made
