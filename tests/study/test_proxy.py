"""A study behind Optuna's gRPC proxy, whose server runs for real."""

from __future__ import annotations

import socket
import sys
import time
from subprocess import Popen
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import StudyError
from allocator.study.board import LEADER, Board
from allocator.study.journal import Journal
from allocator.study.storage import open_storage, study_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVE = """
import sys
import optuna
from optuna.storages import RDBStorage, run_grpc_proxy_server
run_grpc_proxy_server(RDBStorage(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]))
"""


def free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("grpc", reason="grpcio is not installed")
    port = free_port()
    words = (sys.executable, "-c", SERVE, f"sqlite:///{tmp_path}/x.db", str(port))
    with Popen(words) as server:
        yield f"grpc://127.0.0.1:{port}"
        server.kill()


def until_it_listens(url: str) -> None:
    port, ends = int(url.rpartition(":")[2]), time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < ends
            time.sleep(0.05)


def test_a_study_is_kept_and_found_and_workers_meet(served: str) -> None:
    # its server is on its way, and waited for
    journal = Journal.create(served, "study", "identity", {"budget": "4"}, 60)
    journal.set_attribute("a", {"b": [1, 2]})
    assert Journal.load(served, "study").attribute("a") == {"b": [1, 2]}
    assert study_names(served) == ["study"]
    board = Board.open(served, "study", 10)
    with board.record(LEADER, {"goal": "4"}) as own:
        other = Board.open(served, "study", 10)
        assert [each.key for each in other.living(LEADER)] == [own.key]


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    url = f"grpc://127.0.0.1:{free_port()}"
    with pytest.raises(StudyError, match=r"did not work|failed|cannot be opened"):
        Journal.create(url, "study", "identity", {}, 0)


def test_another_form_is_refused() -> None:
    with pytest.raises(StudyError, match="grpc://HOST:PORT"):
        open_storage("grpc://nowhere")
