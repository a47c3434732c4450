"""The server that tests of databases run against, where there is one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from tests import databases

if TYPE_CHECKING:
    from tests.databases import Server


def tables(url: str) -> list[str]:
    engine = sa.create_engine(url)
    found = sa.inspect(engine).get_table_names()
    engine.dispose()
    return found


def make_table(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE kept (number INTEGER)"))
    engine.dispose()


def test_each_database_is_fresh(postgres: Server) -> None:
    first, second = postgres.new_url(), postgres.new_url()
    make_table(first)
    assert (tables(first), tables(second)) == (["kept"], [])


@pytest.mark.parametrize("crash", [False, True])
def test_a_server_that_went_away_comes_back_with_what_it_kept(
    postgres: Server, postgres_url: str, crash: bool
) -> None:
    make_table(postgres_url)
    postgres.stop(crash=crash)
    with pytest.raises(OperationalError, match="refused"):
        tables(postgres_url)
    postgres.start()
    assert tables(postgres_url) == ["kept"]


def test_the_next_test_finds_the_server_running(postgres: Server) -> None:
    assert postgres.runs


@pytest.mark.parametrize("needed", [False, True])
def test_without_a_server_tests_are_skipped_or_fail_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, needed: bool
) -> None:
    monkeypatch.setattr(databases, "missing", lambda: "there is none")
    monkeypatch.delenv(databases.NEEDED, raising=False)
    if needed:
        monkeypatch.setenv(databases.NEEDED, "1")
    ends = pytest.fail.Exception if needed else pytest.skip.Exception
    with pytest.raises(ends, match="there is none"):
        # as it is asked for the first time
        databases.shared_server.__wrapped__()


def test_the_server_is_not_root(postgres: Server) -> None:
    if os.getuid():
        pytest.skip("nobody is root here")
    assert (postgres.folder / "data").stat().st_uid != 0
