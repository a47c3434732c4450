"""How commands end that fail: a sentence, and where it happened only if asked."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from allocator.cli import main

REFUSED = ["evaluate", "--model", "./nowhere", "--task", "vqav2"]
TRACE = "Traceback (most recent call last)"


@pytest.mark.parametrize("words", [REFUSED, ["studies", "show", "none"]])
def test_where_it_happened_is_shown_only_if_asked(words: list[str]) -> None:
    plain = CliRunner().invoke(main, words)
    assert plain.exit_code == 2
    assert TRACE not in plain.output
    told = CliRunner().invoke(main, [*words, "--debug"])
    before = CliRunner().invoke(main, ["--debug", *words])
    assert told.exit_code == before.exit_code == 2
    assert TRACE in told.output
    assert TRACE in before.output
    assert told.output.endswith(plain.output)


def test_a_fault_of_our_own_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("by nought\nand more")

    monkeypatch.setattr("allocator.report.doctor.examine", broken)
    plain = CliRunner().invoke(main, ["doctor"])
    assert plain.exit_code == 1
    assert plain.output.startswith("allocate: ZeroDivisionError: by nought; this is")
    assert plain.output.count("\n") == 1
    assert "broken" in CliRunner().invoke(main, ["doctor", "--debug"]).output
