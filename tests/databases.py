"""A PostgreSQL server for tests: started for real, stopped and started again, cleared.

Tests take the fixture `postgres`, the server, or `postgres_url`, the SQLAlchemy URL of
a database that nobody has used. Where there is no server they are skipped with the
reason, unless ALLOCATE_NEEDS_POSTGRES is set: then they fail with it.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator

NEEDED = "ALLOCATE_NEEDS_POSTGRES"
# Debian keeps them off the path, one folder for each version
FOLDERS = "/usr/lib/postgresql"
# a server of PostgreSQL refuses to be root
USER = "postgres"
HOST = "127.0.0.1"
# seconds in which a server starts or stops on a busy machine
PATIENCE = 60.0
# what is lost when the machine goes down is no test's concern
QUICK = ("fsync=off", "full_page_writes=off")
# what ends a server whose tests were killed: their end of a pipe is closed then
GUARD = """read line; kill -INT "$0"; left=300
while kill -0 "$0" && [ $left -gt 0 ]; do sleep 0.2; left=$((left - 1)); done
rm -rf "$1"
"""


class Server:
    """A server in a folder of its own, at one port for as long as it exists."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            self._as = {"user": USER, "group": pwd.getpwnam(USER).pw_gid}
            self._as["extra_groups"] = []
        # not below a folder of pytest's, which no other user may enter
        self.folder = Path(tempfile.mkdtemp(prefix="allocate-postgres-"))
        if self._as:
            shutil.chown(self.folder, USER)
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._made = 0
        self._run("initdb", "-A", "trust", "-U", USER, "-E", "UTF8", "--no-sync")

    @property
    def runs(self) -> bool:
        """Whether the server is up, as far as this process knows."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, or start it again where it was stopped; returns once it answers."""
        if self.runs:
            return
        settings = (f"listen_addresses={HOST}", f"port={self._port}", *QUICK)
        given = [word for each in settings for word in ("-c", each)]
        # its sockets' default folder belongs to the system's own server
        given += ["-c", "unix_socket_directories=", "-D", str(self._data)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", *given],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                # Ctrl-C is for the tests
                start_new_session=True,
                **self._as,
            )
        told = ["sh", "-c", GUARD, str(self._process.pid), str(self.folder)]
        self._guard = subprocess.Popen(
            told,
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._await_answer()

    def stop(self, *, crash: bool = False) -> None:
        """Stop it and cut all connections; with `crash`, as if it had been killed."""
        if self._process is None or self._guard is None:
            return
        self._guard.kill()
        self._guard.communicate()
        self._process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
        self._process.wait(PATIENCE)
        self._process = None

    def new_url(self) -> str:
        """The SQLAlchemy URL of a fresh database."""
        self.start()
        self._made += 1
        name = f"test{self._made}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{USER}@{HOST}:{self._port}/{name}"

    def execute(self, command: str) -> None:
        """A command of the administrator's, outside of any transaction."""
        import psycopg

        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(command)

    def close(self) -> None:
        """End it, and remove what it kept."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    @property
    def _address(self) -> str:
        return f"host={HOST} port={self._port} user={USER} dbname=postgres"

    def _run(self, program: str, *given: str) -> None:
        done = subprocess.run(
            [self._binaries / program, "-D", str(self._data), *given],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            **self._as,
        )
        if done.returncode:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise RuntimeError(f"{program} failed: {done.stderr[-500:]}")

    def _await_answer(self) -> None:
        import psycopg

        ends = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self._address, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if not self.runs or time.monotonic() > ends:
                    said = (self.folder / "log").read_text(errors="replace")
                    raise RuntimeError(
                        f"PostgreSQL does not answer: {said[-500:]}"
                    ) from None
            time.sleep(0.05)


def missing() -> str:
    """Why there can be no server here; "" where there can."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed"
    if _binaries() is None:
        return f"PostgreSQL is not installed, neither on the path nor in {FOLDERS}"
    if os.getuid() == 0 and USER not in {each.pw_name for each in pwd.getpwall()}:
        return f"PostgreSQL does not run as root, and there is no user {USER}"
    return ""


@cache
def shared_server() -> Server:
    """The one server of this process, ended with it. Skips or fails where none is."""
    reason = missing()
    if reason and os.environ.get(NEEDED):
        pytest.fail(f"{NEEDED} is set, but {reason}")
    if reason:
        pytest.skip(reason)
    binaries = _binaries()
    assert binaries is not None
    server = Server(binaries)
    atexit.register(server.close)
    return server


@pytest.fixture
def postgres() -> Iterator[Server]:
    """A server that runs; a test may stop it, whoever comes next finds it running."""
    server = shared_server()
    server.start()
    with _connections_closed():
        yield server
    server.start()


@pytest.fixture
def postgres_url(postgres: Server) -> str:
    """The SQLAlchemy URL of a fresh database."""
    return postgres.new_url()


@contextmanager
def _connections_closed() -> Iterator[None]:
    """Close the connections of all engines afterwards: psycopg warns of those left."""
    import psycopg

    opened: list[Any] = []

    def note(connection: Any, record: object) -> None:
        del record
        if isinstance(connection, psycopg.Connection):
            opened.append(connection)

    sa.event.listen(sa.pool.Pool, "connect", note)
    try:
        yield
    finally:
        sa.event.remove(sa.pool.Pool, "connect", note)
        for each in opened:
            each.close()


@cache
def _binaries() -> Path | None:
    """The folder of PostgreSQL's programs, of the newest version that is there."""

    def version(found: Path) -> tuple[int, ...]:
        numbers = found.parent.parent.name.split(".")
        return tuple(int(each) for each in numbers if each.isdigit())

    places = sorted(Path(FOLDERS).glob("*/bin/initdb"), key=version)
    # on the path there may be wrappers, which lead elsewhere for each user
    initdb = places[-1] if places else shutil.which("initdb")
    if initdb is None:
        return None
    folder = Path(initdb).resolve().parent
    return folder if (folder / "postgres").exists() else None


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind((HOST, 0))
        return int(asked.getsockname()[1])
