"""Size, last line and trailing spaces of every file in the repository.

    python tests/check_files.py

Looks at what `git ls-files` lists; prints one line for each fault and then exits 1.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
EMBEDDED = "allocator/embedded/"
ORDINARY = 200_000
FIGURE = 500_000
WEIGHTS = 6_500_000


def largest(name: str) -> int:
    """Bytes a file may have: more for the embedded weights and for figures."""
    path = PurePosixPath(name)
    if name.startswith(EMBEDDED) and path.suffix == ".safetensors":
        return WEIGHTS
    if path.is_relative_to("studies") and path.suffix in (".png", ".svg"):
        return FIGURE
    return ORDINARY


def faults(name: str, content: bytes) -> list[str]:
    """What is wrong with a file, one line for each."""
    found = []
    if len(content) > largest(name):
        found.append(f"{name}: {len(content)} bytes, at most {largest(name)}")
    # as git does: a file with a zero byte is no text; and what transformers saved
    # stays as it was saved
    if b"\0" in content or (name.startswith(EMBEDDED) and name.endswith(".json")):
        return found
    for number, line in enumerate(content.split(b"\n"), 1):
        if line != line.rstrip():
            found.append(f"{name}:{number}: space at the end of the line")
    if content and (not content.endswith(b"\n") or content.endswith(b"\n\n")):
        found.append(f"{name}: needs exactly one line break at its end")
    return found


def tracked() -> list[str]:
    """Names of the files in the repository, those deleted just now left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    names = [name.decode() for name in listed.stdout.split(b"\0") if name]
    return [name for name in names if (ROOT / name).is_file()]


def main() -> int:
    """Print every fault; 1 if there is one."""
    found = [
        fault
        for name in tracked()
        for fault in faults(name, (ROOT / name).read_bytes())
    ]
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
