"""Several files of tests at a time, in as many processes, where pytest-xdist is there.

A folder of tests is split among processes by itself; single files, which are through
before another process has started, are not. `-n0` keeps all of it in one process.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# what one process takes at most, its libraries included
BYTES = 2 * 2**30
# more have nothing left to do while the longest file runs
MOST = 8
# longest first: one of these that begins last is waited for alone
LONGEST = (
    # of the slow tests
    "end_to_end/test_readme.py",
    "explain/test_explanation.py",
    # of all others
    "end_to_end/test_search.py",
    "end_to_end/test_bank.py",
    "quant/test_sequential.py",
    "end_to_end/test_tasks.py",
    "bench/test_finalize.py",
    "contracts/test_family.py",
    "contracts/test_invariants.py",
)


def processes() -> int:
    """As many as there are processors and memory for."""
    from joblib import cpu_count

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(cpu_count(), memory // BYTES, MOST))


def wanted(config: pytest.Config) -> bool:
    """Whether a run is one to split that does not say how."""
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return False
    # somebody looks inside, or there is one accelerator for all
    alone = option.usepdb or option.capture == "no" or option.markexpr == "gpu"
    folders = any(Path(arg.partition("::")[0]).is_dir() for arg in config.args)
    return option.numprocesses is None and option.dist == "no" and folders and not alone


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Split a run among processes, a file at a time: its tests share what they need."""
    if wanted(config):
        config.option.numprocesses = processes()
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest."""
    places = {name: place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> int:
        folder, name = item.path.parts[-2:]
        return places.get(f"{folder}/{name}", len(LONGEST))

    items.sort(key=place)
