"""A password of a storage is nowhere to be seen: planted, and looked for."""

from __future__ import annotations

import shutil
import sqlite3
import traceback
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import OperationalError

from allocator import open_study
from allocator.cli import search as cli
from allocator.core import masking
from allocator.core.errors import SpecError, StudyError, UnknownNameError
from allocator.core.masking import masked, remember
from allocator.core.plan import plan_json
from allocator.core.spec import LeftOut, ModelSpec, build_groups
from allocator.core.study import StudySpec
from allocator.search import run as searching
from allocator.search.estimate import estimate
from allocator.search.propose import propose
from allocator.search.run import baselines, conclude, in_short
from allocator.study.journal import Journal
from allocator.study.recommendations import keep_recommendation
from allocator.study.storage import open_storage
from tests.conftest import toy_linears
from tests.searches import asked_for, fake_weights, search_of

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = ("hunter2-of-mine", "other p@ss", "other%20p%40ss")


class Planted(SQLiteDialect_pysqlite):
    """A server with users and passwords that is a file in truth."""

    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> Any:
        return sqlite3

    def create_connect_args(self, url: Any) -> Any:
        if url.host == "nowhere":
            words = f"no connection to {url.host} with {url.password} of {url.username}"
            raise OperationalError("connect", {}, Exception(words))
        return [f"/{url.database}"], {"check_same_thread": False}


registry.register("planted", __name__, "Planted")


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_secrets", set())
    monkeypatch.setattr(masking, "_given", {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.fixture
def url(file: Path) -> str:
    return planted(file)


def clean(text: str) -> str:
    """A text in which no secret is."""
    for secret in SECRETS:
        assert secret not in text, text
    return text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:se-cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg2://me:se@c/r?t@host", "postgresql+psycopg2://me:***@host"),
        ("mysql://me:a:b@host:3306/db", "mysql://me:***@host:3306/db"),
        ("mysql://me:secret@[::1]/db", "mysql://me:***@[::1]/db"),
        ("mysql://:secret@host/db", "mysql://:***@host/db"),
        ("postgresql://host/db?user=me&password=it's me", "postgresql://host/db?user=me&password=***"),
        ("postgresql://h/d?sslpassword=x&sslmode=on", "postgresql://h/d?sslpassword=***&sslmode=on"),
        ("libsql://host?authToken=abc.def", "libsql://host?authToken=***"),
        ("mssql:///?odbc_connect=UID%3Dme%3BPWD%3Dsecret%3BX%3D1", "mssql:///?odbc_connect=UID%3Dme%3BPWD%3D***%3BX%3D1"),
        ("me:se-cret@host/db", "me:***@host/db"),
        ("postgresql:/me:se-cret@host/db", "postgresql:/me:***@host/db"),
        ("sqlite:///studies.db", "sqlite:///studies.db"),
        ("sqlite:////data/a@b/studies.db", "sqlite:////data/a@b/studies.db"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("/data/studies.log", "/data/studies.log"),
        ("postgresql://[", "postgresql://["),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_secrets_alone(url: str, shown: str) -> None:
    assert remember(url) == shown
    assert masked(f"storage {url} failed") == f"storage {shown} failed"


@pytest.mark.parametrize(
    "said",
    [
        "max_new_tokens=10 is too many",
        "token 17 ('<image>') of 'a: b@c'",
        "https://huggingface.co/org/model",
        "see http://host:8080/path",
        "--storage-timeout lets a search wait longer",
    ],
)
def test_sentences_without_secrets_stay_as_they_are(said: str) -> None:
    assert masked(said) == said


def test_a_driver_that_says_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(StudyError) as refused:
        open_storage(url.replace("@host/", "@nowhere/"))
    said = clean(str(refused.value))
    assert "planted://me:***@nowhere/" in said
    assert "no connection to nowhere with *** of me" in said


@pytest.mark.parametrize("server", ["nosuchdatabase", "postgresql", "mysql", "mssql"])
def test_a_driver_that_is_missing_is_named_without_the_password(
    url: str, server: str
) -> None:
    words = ["studies", "list", "--debug", "--storage", url.replace("planted", server)]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 2
    assert "Traceback" in clean(done.output)
    assert f"{server}://me:***@host" in done.output


def test_a_name_that_somebody_typed_for_a_url_is_masked() -> None:
    secret = SECRETS[0]
    for error in (SpecError, StudyError):
        clean(
            str(error(f"storage = ['mysql://me:{secret}@host'] is of the wrong type"))
        )
    clean(str(UnknownNameError("command", f"mysql://me:{secret}@host", ["studies"])))
    done = CliRunner().invoke(cli.main, [f"mysql://me:{secret}@host"])
    assert done.exit_code == 2
    assert "mysql://me:***@host" in clean(done.output)
    clean(repr(StudySpec("4", "vqav2", storage=f"mysql://me:{secret}@host")))


def planted(file: Path) -> str:
    return f"planted://me:{SECRETS[0]}@host/{file}?sslpassword={SECRETS[2]}"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A study with a recommendation, in a storage with a password."""
    file = tmp_path_factory.mktemp("made") / "studies.db"
    head = LeftOut("head", 32 * 96, "the output layer stays as it is")
    toy = ModelSpec("toy", 102_400, build_groups(toy_linears()), (head,))
    with pytest.MonkeyPatch.context() as patch:
        fake_weights(patch)
        patch.setattr(searching, "strata", lambda *_: ())
        asked = asked_for(storage=planted(file), trials=1)
        search = search_of(toy, planted(file), asked)
        baselines(search)
        propose(search)
        found = conclude(search)
    plan = plan_json(asked, toy, found.allocation)
    keep_recommendation(search.journal, search.goal.name, found, plan)
    search.journal.describe("accuracy (%)", in_short(found))
    return file, found


@pytest.fixture
def found(made: tuple[Path, Any], url: str, file: Path) -> tuple[Journal, Any]:
    """A copy of that study, and its recommendation."""
    shutil.copy(made[0], file)
    return Journal.load(url, "study"), replace(made[1], storage=masked(url))


def rows(file: Path) -> str:
    with closing(sqlite3.connect(file)) as opened:
        return "\n".join(opened.iterdump())


def test_no_row_of_the_database_and_no_output_has_it(
    found: Any, url: str, file: Path, tmp_path: Path
) -> None:
    journal, recommended = found
    assert "planted://me:***@host" in clean(rows(file))
    clean(repr(recommended))
    clean(repr(journal))
    assert "***" in clean(str(recommended.to_json()["storage"]))
    page, plan = tmp_path / "report.html", tmp_path / "plan"
    for words in (
        ("studies", "list"),
        ("studies", "show", "study"),
        ("studies", "show", "study", "--json"),
        ("explain", "study"),
        ("explain", "study", "--json"),
        ("report", "study", "--out", str(page)),
        ("export", "study", "--format", "plan", "--out", str(plan)),
        ("studies", "show", "none", "--debug"),
    ):
        done = CliRunner().invoke(cli.main, [*words, "--storage", url])
        assert done.exit_code == (2 if "none" in words else 0), done.output
        clean(done.output)
    clean(page.read_text())
    clean((plan / "plan.json").read_text())


def test_what_is_shown_opens_the_storage_where_it_was_opened_before(
    found: Any,
) -> None:
    journal, recommended = found
    again = open_study("study", recommended.storage)
    assert again.journal.name == journal.name
    clean(repr(again))
    clean(again._repr_html_())
    # another process does not know it, and says so
    masking._given.clear()
    with pytest.raises(StudyError, match=r"left out: put it in place of \*\*\*"):
        open_study("study", recommended.storage)


def test_an_estimate_and_a_search_say_nothing_of_it(
    found: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del found
    told = estimate(asked_for(budget="4.5", study="study", storage=url))
    clean(told.sentence if told else "")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("allocator.bench.prepare.prepare", interrupted)
    words = ["--budget", "4", "--task", "vqav2", f"--storage={url}"]
    monkeypatch.setattr("sys.argv", ["allocate", *words])
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 130
    assert "Go on with (with its password in place of ***):" in clean(done.output)
    assert "'--storage=planted://me:***@host" in done.output


def test_a_fault_of_our_own_says_nothing_of_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"engine {url} of {SECRETS[1]}")

    open_storage(url)
    monkeypatch.setattr("allocator.study.storage.study_names", fails)
    done = CliRunner().invoke(cli.main, ["studies", "list", "--debug"])
    assert done.exit_code == 1
    assert "Traceback" in clean(done.output)


def test_a_study_of_before_that_holds_it_shows_it_no_more(
    found: Any, url: str, file: Path
) -> None:
    journal, _ = found
    latest = journal.attribute("latest")
    old = journal.attribute(f"recommendation:{latest}")
    old["found"]["storage"] = url
    journal.set_attribute(f"recommendation:{latest}", old)
    assert SECRETS[0] in rows(file)
    done = CliRunner().invoke(
        cli.main, ["studies", "show", "study", "--json", "--storage", url]
    )
    clean(done.output)
    # its next search leaves nothing of it
    Journal.create(url, "study", "identity", {"storage": url})
    clean(rows(file))


def test_a_traceback_of_a_failure_in_use_has_no_secret(url: str, file: Path) -> None:
    Journal.create(url, "first", "identity", {"storage": url})
    journal = Journal.load(url, "first")
    file.write_bytes(b"something else" * 1000)
    with pytest.raises(StudyError) as refused:
        journal.set_attribute("spec", {"a": 1})
    clean("".join(traceback.format_exception(refused.value)))
