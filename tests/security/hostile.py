"""Files that were made to fill the memory, each given to who reads it.

    python -m tests.security.hostile FOLDER

Prints what is said of each as JSON, and the most memory that the process had, in MiB.
"""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allocator.bench.contents import Contents
from allocator.bench.imports import is_plan
from allocator.bench.sums import SUMS, check_sums
from allocator.core.errors import AllocateError
from allocator.core.plan import Plan
from allocator.core.study import StudySpec
from allocator.families import read_config, read_image
from allocator.families._headers import bytes_of, header_of
from allocator.families._prompts import PROMPTS_FILE, read_prompts
from allocator.space.csv_file import read_csv
from allocator.study.attributes import PACKED, kept_under
from allocator.study.per_sample import decode_scores
from allocator.study.storage import study_names
from evals.rows.tables import read_table
from evals.tasks._official import read_json, read_json_lines
from quant.bank import MANIFEST, read_manifest
from quant.cells import stored_cells
from quant.finalized import Finalized

if TYPE_CHECKING:
    from collections.abc import Callable

# bytes that no disk has to hold: the file is a hole
SPARSE = 10 * 2**30
DEEP = 200_000
MOST = 2 * 2**30


def hole(file: Path, begins: bytes = b"") -> Path:
    file.write_bytes(begins)
    os.truncate(file, SPARSE)
    return file


def endless(folder: Path) -> dict[str, Callable[[], object]]:
    """Files of ten gigabytes, of one line."""
    text = hole(folder / "samples.jsonl", b'{"image": "')
    table = folder / "samples.csv"
    for name in ("samples.json", "samples.csv", "samples.tsv", SUMS, PROMPTS_FILE):
        hole(folder / name, b'{"a')
    hole(folder / "config.json")
    hole(folder / MANIFEST)
    log = hole(folder / "studies.log", b'{"op_code": 0, "a": "')
    sums = lambda: check_sums(folder, [], Contents())  # noqa: E731
    return {
        "rows in jsonl": lambda: read_table(text),
        "rows in json": lambda: read_table(folder / "samples.json"),
        "rows in csv": lambda: read_table(table),
        "rows in tsv": lambda: read_table(folder / "samples.tsv"),
        "official json": lambda: read_json(folder, text.name),
        "official lines": lambda: read_json_lines(folder, text.name),
        "plan": lambda: Plan.read(text),
        "other tool": lambda: is_plan(text),
        "spec": lambda: StudySpec.from_toml(text, {}),
        "table": lambda: read_csv(table, ("score",)),
        "checksums": sums,
        "prompts": lambda: read_prompts(folder, {}),
        "config": lambda: read_config(folder),
        "manifest": lambda: read_manifest(folder),
        "finalized": lambda: Finalized.open(folder),
        "log": lambda: study_names(str(log), 0.0),
        "device": lambda: Plan.read(Path("/dev/zero")),
    }


def deep(folder: Path) -> dict[str, Callable[[], object]]:
    """Values within values."""
    folder.mkdir()
    nested = b'{"a":' * DEEP
    for name in ("samples.json", "config.json", PROMPTS_FILE, MANIFEST, "deep.jsonl"):
        (folder / name).write_bytes(nested)
    toml = folder / "spec.toml"
    toml.write_bytes(b"a = " + b"[" * DEEP)
    log = folder / "deep.log"
    log.write_bytes(b'{"op_code":' + b"[" * DEEP + b"\n" + b"{}\n")
    lines = folder / "deep.jsonl"
    packed = base64.b85encode(zlib.compress(nested)).decode()
    return {
        "deep json": lambda: read_table(folder / "samples.json"),
        "deep lines": lambda: read_table(lines),
        "deep official": lambda: read_json(folder, "samples.json"),
        "deep plan": lambda: Plan.read(lines),
        "deep other tool": lambda: is_plan(lines),
        "deep spec": lambda: StudySpec.from_toml(toml, {}),
        "deep prompts": lambda: read_prompts(folder, {}),
        "deep config": lambda: read_config(folder),
        "deep manifest": lambda: read_manifest(folder),
        "deep finalized": lambda: Finalized.open(folder),
        "deep log": lambda: study_names(str(log), 0.0),
        "deep value": lambda: kept_under("a", {"a": {PACKED: packed}}),
    }


def wide(folder: Path) -> dict[str, Callable[[], object]]:
    """Short texts of many values: a hundred times as large once they are read."""
    folder.mkdir()
    for name in ("wide.json", "config.json"):
        (folder / name).write_bytes(b"[" + b'{"":0},' * 4_500_000 + b"0]")
    (folder / "wide.csv").write_bytes(b"a,score\n" + b"ab,c\n" * 12_000_000)
    lines = folder / "wide.jsonl"
    lines.write_bytes((b'{"a":[' + b"[]," * 9_000_000 + b"0]}\n") * 2)
    return {
        "wide plan": lambda: Plan.read(folder / "wide.json"),
        "wide config": lambda: read_config(folder),
        "wide rows": lambda: read_table(folder / "wide.json"),
        "wide lines": lambda: read_table(lines),
        "wide official": lambda: read_json(folder, "wide.json"),
        "wide table": lambda: read_csv(folder / "wide.csv", ("score",)),
    }


def bombs(folder: Path) -> dict[str, Callable[[], object]]:
    """What unpacks to a thousand times its size."""
    folder.mkdir()
    packer = zlib.compressobj(9)
    zeros = b"".join(packer.compress(bytes(2**24)) for _ in range(300))
    zeros += packer.flush()
    text = base64.b85encode(zeros).decode()
    (folder / "text.png").write_bytes(_png(20, 20, (b"zTXt", b"a\0\0" + zeros)))
    (folder / "large.png").write_bytes(_png(60_000, 60_000))
    return {
        "packed value": lambda: kept_under("a", {"a": {PACKED: text}}),
        "packed scores": lambda: decode_scores(text),
        "text of a picture": lambda: read_image(folder / "text.png", upright=True),
        "size of a picture": lambda: read_image(folder / "large.png", upright=True),
        **_parquet(folder),
    }


def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height) if width < 99 else b"")
    kept = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    kept.seek(0, io.SEEK_END)
    for kind, data in ((b"IHDR", head), *chunks, (b"IDAT", rows), (b"IEND", b"")):
        sum_ = zlib.crc32(kind + data)
        kept.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", sum_))
    return kept.getvalue()


def _parquet(folder: Path) -> dict[str, Callable[[], object]]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return {}
    long = pyarrow.array(["x" * 10**7])
    same = pyarrow.array([0] * 2000, pyarrow.int32())
    column = pyarrow.DictionaryArray.from_arrays(same, long)
    table = pyarrow.table({"image": column})
    parquet.write_table(table, folder / "same.parquet", compression="zstd")
    return {"same cell in parquet": lambda: read_table(folder / "same.parquet")}


def lying_headers(folder: Path) -> dict[str, Callable[[], object]]:
    """Headers of safetensors that say what is not so."""
    folder.mkdir()
    two = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    headers: dict[str, Any] = {
        "offsets beyond the file": {"a": {**two, "data_offsets": [0, 2**60]}},
        "offsets backwards": {"a": {**two, "data_offsets": [8, 0]}},
        "shape of another size": {"a": {**two, "shape": [2**40]}},
        "shape that overflows": {"a": {**two, "shape": [2**63, 4]}},
        "unknown type": {"a": {**two, "dtype": "P99"}},
        "two in one place": {"a": two, "b": two},
        "no offsets": {"a": {"dtype": "F32"}},
    }
    texts = {name: json.dumps(value).encode() for name, value in headers.items()}
    member = json.dumps(two)
    texts["a name twice"] = f'{{"a": {member}, "a": {member}, "a": 3}}'.encode()
    found: dict[str, Callable[[], object]] = {}
    for at, (name, text) in enumerate(texts.items()):
        file = folder / f"{at}.safetensors"
        file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
        found[name] = lambda file=file: header_of(folder, file)  # type: ignore[misc]
    for name, length in (("header beyond the file", 2**62), ("large header", 10**8)):
        file = folder / f"{length}.safetensors"
        file.write_bytes(length.to_bytes(8, "little") + b"{")
        os.truncate(file, 2 * 10**8)
        found[name] = lambda file=file: header_of(folder, file)  # type: ignore[misc]
        found[f"{name}, its bytes"] = lambda file=file: bytes_of(file)  # type: ignore[misc]
    cell = folder / f"{10**8}.safetensors"
    # a damaged file of cells is made again
    assert stored_cells(cell) == {}
    return found


def said(read: Callable[[], object]) -> str:
    """The sentence that something is refused with."""
    try:
        read()
    except AllocateError as error:
        return str(error)
    return "it was read"


def main(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MOST, MOST))
    cases = endless(folder)
    rooms = {"deep": deep, "wide": wide, "bombs": bombs, "headers": lying_headers}
    for name, make in rooms.items():
        cases |= make(folder / name)
    told = {}
    for name, read in cases.items():
        told[name] = said(read)
        print(name, told[name][:99], file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"said": told, "peak": peak}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
