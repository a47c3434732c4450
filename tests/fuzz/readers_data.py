"""Readers of samples, annotations and pictures, and of values that people type."""

from __future__ import annotations

import io
import json
import random
from typing import TYPE_CHECKING, Any

import click
from PIL import Image

from allocator.cli.values import Duration, Fraction, GroupSize, Widths
from allocator.core.errors import SpecError
from allocator.core.options import given_options
from allocator.core.own import Wishes, named_columns
from allocator.core.ports import SPLITS, Selection
from allocator.core.study import StudySpec, check_study_name
from allocator.families import read_image
from evals.rows.tables import read_table
from evals.tasks.tsv import PLUGIN as BENCHMARK
from tests.contracts.tasks import write_file
from tests.evals.layouts import LAYOUTS
from tests.evals.own_files import digests, lines, opened, rows, separated, write
from tests.fuzz.damage import some_text
from tests.fuzz.readers import Reader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.evals.layouts import File, Layout

WRITERS = {
    "jsonl": lines,
    "json": json.dumps,
    "csv": separated,
    "tsv": lambda found: separated(found, "\t"),
}
KINDS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
WORDS = (
    *("4.0", "3.5GiB", "vision.*=8", "*=4/gptq", "question=prompt", "a", "b", "90s"),
    *(
        "20m",
        "1.5h",
        "nan",
        "inf",
        "-1",
        "1e400",
        "0x10",
        "16",
        "\u00b2",
        "\u0664",
        "gptq",
    ),
    *("channel", "{question}", "<image>", "own", "embedded", "+", ",", "vqav2", "GiB"),
)


def own_rows(kind: str) -> Callable[[Path], Any]:
    """Rows of a user's file, without what is made of them (tests/evals/rows)."""

    def made(folder: Path) -> Any:
        more: list[dict[str, Any]] = [{}, {"choices": ["a", "b"], "split": "search"}]
        found = [WRITERS[kind](rows(6, **each)) for each in more]
        file = folder / f"samples.{kind}"

        def read(content: bytes) -> object:
            file.write_bytes(content)
            return read_table(file)

        return [each.encode() for each in found], read

    return made


def _chosen() -> list[dict[str, Any]]:
    return rows(40, choices=["a", "b"], answer="B")


def own_task(folder: Path) -> Any:
    """A whole task of a user's file."""
    seeds = [lines(rows(40)).encode(), lines(_chosen()).encode()]

    def read(content: bytes) -> object:
        task = opened(write(folder, "samples.jsonl", content))
        return [task.samples(folder, split, Selection()) for split in SPLITS]

    return seeds, read


def parquet_rows(folder: Path) -> Any:
    import pyarrow
    from pyarrow import parquet

    seeds, file = [], folder / "samples.parquet"
    for codec, more in (("none", {}), ("zstd", {"choices": ["a", "b"]})):
        table = pyarrow.Table.from_pylist(rows(8, **more))
        parquet.write_table(table, file, compression=codec)
        seeds.append(file.read_bytes())

    def read(content: bytes) -> object:
        file.write_bytes(content)
        return read_table(file)

    return seeds, read


def benchmark_file(folder: Path) -> Any:
    file = write_file(folder, 40)
    seed = file.read_bytes()

    def read(content: bytes) -> object:
        file.write_bytes(content)
        return BENCHMARK.opened(file, Wishes(folder / "cache"), digests)

    return [seed], read


def annotations(layout: Layout, file: File) -> Callable[[Path], Any]:
    def made(folder: Path) -> Any:
        layout.write(folder, layout.parts)
        path = folder / file.name
        seed = path.read_bytes()

        def read(content: bytes) -> object:
            path.write_bytes(content)
            return layout.samples(folder, file.split)

        return [seed], read

    return made


def pictures(folder: Path) -> Any:
    seeds, file = [], folder / "picture"
    for kind in KINDS:
        for mode in ("RGB", "L"):
            kept = io.BytesIO()
            Image.new(mode, (20, 9), 77).save(kept, kind)
            seeds.append(kept.getvalue())
    grey = io.BytesIO()
    Image.new("I;16", (9, 9), 9999).save(grey, "TIFF")

    def read(content: bytes) -> object:
        file.write_bytes(content)
        return read_image(file, upright=len(content) % 2 == 0)

    return [*seeds, grey.getvalue()], read


def _converted(kind: click.ParamType[Any], text: str) -> object:
    try:
        return kind.convert(text, None, None)
    except click.BadParameter as error:
        # click says it in a line of its own
        raise SpecError(f"{error.message!r}") from None


def option_values(folder: Path) -> Any:
    """Texts in place of every option; the input is a seed of which, and of them."""
    del folder
    names = list(StudySpec("4", "vqav2").to_json())
    kinds = (Duration(), Fraction(), GroupSize(), Widths())

    def read(content: bytes) -> object:
        rng = random.Random(content)
        text = some_text(rng, WORDS)
        way = rng.choice((*kinds, named_columns, check_study_name, None, None, None))
        if way is None:
            given = {"budget": "4", "task": "vqav2", rng.choice(names): text}
            return StudySpec.read(given_options(given)).to_json()
        if way is named_columns:
            return named_columns(text.split(","))
        return way(text) if way is check_study_name else _converted(way, text)

    return [], read


READERS = (
    *(Reader(f"own rows in {kind}", own_rows(kind)) for kind in WRITERS),
    Reader("parquet rows", parquet_rows),
    Reader("pictures", pictures),
    Reader("option values", option_values, drawn=True),
    *(
        Reader(made.__name__.replace("_", " "), made, often=False)
        for made in (own_task, benchmark_file)
    ),
    *(
        Reader(f"{layout.task} {file.name}", annotations(layout, file), often=False)
        for layout in LAYOUTS
        for file in layout.files
    ),
)
