from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "optuna", "shap", "sklearn", "xgboost"}


def test_help_imports_none_of_the_heavy_libraries() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "allocator.cli", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--budget" in done.stdout
    # lines of "import time: self [us] | cumulative | imported package"
    rows = [
        line for line in done.stderr.splitlines() if line.startswith("import time:")
    ]
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in rows}
    assert {"click", "allocator"} <= imported
    assert not imported & HEAVY
