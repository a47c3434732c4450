"""A thousand damaged inputs for every reader: a value or a sentence, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.outcomes import outcomes
from tests.fuzz.run import READERS, folder_for

COUNT = 1_000
# a database is opened through Optuna, in a tenth of a second
FEW = {"databases": 40}
# what is remembered only, a word that is looked for, and a name: all of them read all
READ_ALL = ("memories", "templates", "owners")


def check(name: str) -> None:
    with folder_for() as folder:
        found = outcomes(READERS[name], Path(folder), FEW.get(name, COUNT))
    # both happen, or it would show nothing
    assert found.read > 0
    assert found.refused > 0 or name in READ_ALL


@pytest.mark.parametrize("name", [n for n, each in READERS.items() if each.often])
def test_what_is_damaged_is_read_or_refused_in_a_sentence(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, each in READERS.items() if not each.often])
def test_what_is_slow_to_read_is_as_well(name: str) -> None:
    check(name)
