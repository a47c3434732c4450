"""2,000 damaged files of one's own: a task or a sentence, and never anything else."""

from __future__ import annotations

import base64
import json
import random
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import AllocateError
from allocator.core.ports import SPLITS, Selection
from tests.evals.own_files import lines, opened, picture, rows, separated, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EACH = 500
# bytes that mean something to a reader, or to nobody
PIECES: tuple[bytes, ...] = (
    *(
        b'"',
        b"'",
        b",",
        b";",
        b"\t",
        b"\n",
        b"\r",
        b"\0",
        b"\\",
        b"[",
        b"]",
        b"{",
        b"}",
    ),
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\\ud800"),
    *(b"NaN", b"null", b"true", b"-1e999", b"0", b"[[", b'{"a":', b"nan", b" " * 50),
    *(b"http://a.b/c", b"data:image/png;base64,", b"../", b"/", b"image", b"answer"),
    *(b"9" * 5000, b"[" * 3000, b"A,B,C", b"split"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, "", " ", 0, 1.5, float("nan"), float("-inf"), [], {}, [[]], [None]),
    *({"bytes": 3}, {"bytes": "x"}, {"path": 1}, {"answer": {}}, {"text": [[1]]}),
    *("\0", "\ud800", "x" * 9000, "/", ".", "~", "data:,", [True], {"": ""}, -1, "A"),
)


@cache
def encoded(number: int) -> str:
    return base64.b64encode(picture(number)).decode()


def entries(rng: random.Random) -> list[dict[str, Any]]:
    """Rows of one of the shapes that files have."""
    more: list[dict[str, Any]] = [
        {},
        {"choices": ["a", "b"], "answer": "A"},
        {"A": "red", "B": "blue", "answer": "B"},
        {"id": None, "split": None},
        {"answer": ["a"] * 10},
    ]
    found = rows(40, **rng.choice(more))
    for number, row in enumerate(found):
        if "id" in row:
            row.update(id=number, split=SPLITS[number % 3])
        if rng.random() < 0.1:
            row["image"] = encoded(number)
    if rng.random() < 0.5:
        row, column = rng.choice(found), rng.choice(list(found[0]))
        row[column] = rng.choice(VALUES)
    return found


def cut(text: bytes, rng: random.Random) -> bytes:
    """A text with one damage."""
    start, end = sorted(rng.randrange(len(text) + 1) for _ in range(2))
    end = min(end, start + rng.choice((1, 3, 30, 3000)))
    piece = rng.choice(PIECES)
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: text[:start],
        lambda: text[:start] + text[end:],
        lambda: text[:start] + piece + text[start:],
        lambda: text[:start] + piece + text[end:],
        lambda: text[:end] + text[start:],
        lambda: text.replace(text[start:end] or b"e", piece, rng.choice((1, 1, -1))),
        lambda: bytes(each ^ (rng.random() < 0.01) for each in text),
    )
    return rng.choice(ways)()


WRITERS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "samples.jsonl": lines,
    "samples.json": json.dumps,
    "samples.csv": separated,
    "samples.tsv": lambda found: separated(found, "\t"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_files_get_a_sentence(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    read, said = 0, []
    for _ in range(EACH):
        text = WRITERS[name](entries(rng)).encode(errors="surrogatepass")
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            text = cut(text, rng)
        try:
            task = opened(write(tmp_path, name, text))
        except AllocateError as error:
            said.append(str(error))
            continue
        read += 1
        for split in SPLITS:
            found = task.samples(tmp_path, split, Selection())
            assert found
            for sample in found:
                assert sample.image.is_file()
                assert task.place(sample)
        assert task.summary.counts
    assert all(name in each and "\n" not in each for each in said)
    # both happen often, or it would show nothing
    assert min(len(said), read) > EACH / 10
