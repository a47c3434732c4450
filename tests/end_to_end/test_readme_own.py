"""What README shows of data of one's own runs as printed, without answers too."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text()


def run(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "allocator.cli", *words],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.nightly
def test_the_example_of_own_data_runs_as_printed(tmp_path: Path) -> None:
    found = re.search(
        r"\n    (allocate example .*)\n    (allocate .*--task own .*)\n", README
    )
    assert found is not None
    example, search = (shlex.split(line)[1:] for line in found.groups())
    written = run(tmp_path, *example).stdout
    # the command prints what README goes on with
    assert found[2] in written
    told = json.loads(run(tmp_path, *search, "--json").stdout)
    assert told["metric"] == "exact match (%)"
    assert told["recommended"]["bpw"] <= 4.0
    # 2 bits everywhere has 81, full precision 98
    assert told["recommended"]["score"] > 90

    rows = tmp_path / "shop" / "samples.jsonl"
    entries = [json.loads(line) for line in rows.read_text().splitlines()]
    assert all(entry.pop("answer") for entry in entries)
    rows.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    fewer = (*search, "--metric", "agreement", "--trials", "3", "--no-tune")
    told = json.loads(run(tmp_path, *fewer, "--json").stdout)
    assert told["full_precision"]["score"] == 100
    assert told["recommended"]["score"] > 85
    assert told["recommended"]["divergence"]["nats"] > 0
