"""What it takes until a search begins, when its pictures are many.

Each start is a process of its own: from a request to the study's name, over pictures of
random bytes, 50 to 100 KB each, in VQAv2's official files. The first start reads them
all, the second remembers them; so does a third for which one in ten was written anew.

    python -m tests.benchmarks.bench_start --pictures 20000 --folder ~/pictures
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.evals.data_folders import write, write_vqav2

SEARCH, CALIBRATION = 1_000, 128
SIZES = (50_000, 100_000)
# seconds after which a file counts as settled, with room
SETTLED = 3

START = """
import json, sys, time
began = time.perf_counter()
from allocator.bench.prepare import prepare
from allocator.core.study import StudySpec
imported = time.perf_counter()
setup = prepare(StudySpec(budget="16", task="vqav2", data=sys.argv[1], device="cpu"))
prepared = time.perf_counter()
setup.study
named = time.perf_counter()
print(json.dumps([imported - began, prepared - imported, named - prepared]))
"""


def fill(file: Path, chance: random.Random) -> None:
    """Write bytes that no other picture has."""
    file.write_bytes(chance.randbytes(chance.randint(*SIZES)))


def draw(folder: Path, pictures: int) -> list[Path]:
    """Official files on so many pictures; returns these."""
    images = range(CALIBRATION, pictures)
    parts = {"train2014": range(CALIBRATION), "val2014": images}
    write_vqav2(folder, parts)
    asked = [image * 1000 for image in images]
    splits = {"search": asked[:SEARCH], "evaluation": asked[SEARCH:]}
    write(folder / "splits.json", splits)
    chance, files = random.Random(0), sorted(folder.glob("*2014/*.jpg"))
    for file in files:
        fill(file, chance)
    return files


def start(folder: Path, home: Path) -> dict[str, float]:
    """Seconds of one start in a process of its own."""
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(home),
        "XDG_DATA_HOME": str(home),
    }
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", START, str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    whole = time.perf_counter() - began
    parts = zip(("import", "prepare", "identity"), json.loads(done.stdout), strict=True)
    return {"process": round(whole, 2), **{name: round(s, 2) for name, s in parts}}


def measure(folder: Path, pictures: int) -> dict[str, Any]:
    """Seconds of the first start, of the second, and with a tenth written anew."""
    files = draw(folder, pictures)
    time.sleep(SETTLED)
    with tempfile.TemporaryDirectory() as home:
        found = {name: start(folder, Path(home)) for name in ("first", "second")}
        chance = random.Random(1)
        for file in files[::10]:
            fill(file, chance)
        found["a tenth anew"] = start(folder, Path(home))
    size = sum(file.stat().st_size for file in files)
    return {"pictures": len(files), "GB": round(size / 1e9, 2), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where; removed if not given")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(asked.folder or Path(folder), asked.pictures)))


if __name__ == "__main__":
    main()
