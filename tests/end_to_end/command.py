"""Run the command line as a user does, in homes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = (sys.executable, "-m", "allocator.cli")


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in homes of its own."""
    return subprocess.run(
        [*COMMAND, *words],
        env=environment(home),
        capture_output=True,
        text=True,
        check=False,
    )


def allocate(home: Path, *words: str) -> Any:
    """Run the command line and read its JSON."""
    done = run(home, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def environment(home: Path) -> dict[str, str]:
    homes = {"XDG_DATA_HOME": str(home / "data"), "XDG_CACHE_HOME": str(home / "cache")}
    return {**os.environ, **homes, "HF_HUB_OFFLINE": "1"}
