"""What was made to fill the memory is refused, in one process of less than 2 GB."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from allocator.bench.imported._expressions import expression
from allocator.core.bounded import BoundError, check_weight, unpacked
from allocator.core.errors import SpecError
from allocator.core.masking import masked
from tests.fuzz.run import SHM
from tests.security.hostile import MOST

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told() -> Any:
    # of holes nothing is stored, and of the rest half a gigabyte
    with tempfile.TemporaryDirectory(dir=SHM if SHM.is_dir() else None) as folder:
        command = [sys.executable, "-m", "tests.security.hostile", folder]
        ran = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False
        )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.slow
def test_all_of_it_is_refused_in_a_sentence(told: Any) -> None:
    assert len(told["said"]) > 40
    for name, said in told["said"].items():
        assert said != "it was read", name
        assert "\n" not in said, name


@pytest.mark.slow
def test_no_process_takes_more_than_two_gigabytes_for_it(told: Any) -> None:
    assert told["peak"] < MOST / 2**20


@pytest.mark.parametrize(
    "text",
    ["(a+)+$", "(a|aa)*b", "(a?){50}a{50}", ".*.*.*x", "(.*)(.*)(.*)x", ".*a" * 9],
)
def test_an_expression_that_takes_forever_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="may take forever to match"):
        expression(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "re",
            r".*(q|k|v)_proj$",
            r"model\.layers\.\d+\..*",
            r"^(?!.*lm_head).*mlp.*",
        ),
        *(r".*\.(?:gate|up)_proj", r"(?:.*\.)?down_proj", r"layers\.(1|2)\.", "[a-z]+"),
    ],
)
def test_expressions_as_tools_write_them_are_read(text: str) -> None:
    assert expression(text).pattern == text


def test_weights_of_a_text_are_above_what_it_takes() -> None:
    for text in ('{"a":0}', "[[],[]]", '["ab","cd"]'):
        many = f"[{','.join([text] * 1000)}]"
        assert check_weight(many) > _size(json.loads(many))


def _size(value: Any) -> int:
    within = value.values() if isinstance(value, dict) else value
    inner = map(_size, within) if isinstance(value, dict | list) else ()
    return sys.getsizeof(value) + sum(inner)


@pytest.mark.parametrize("packed", [b"", b"x", b"\x78\x9c"])
def test_what_is_cut_short_is_not_unpacked(packed: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpacked(packed)


def test_what_unpacks_to_more_than_its_bound_is_left() -> None:
    import zlib

    assert unpacked(zlib.compress(b"a" * 100), 100) == b"a" * 100
    with pytest.raises(BoundError, match="more than 99 bytes"):
        unpacked(zlib.compress(b"a" * 100), 99)


def test_sentences_are_masked_in_no_time_whatever_they_name() -> None:
    for text in ("a." * 500_000, "a://" * 200_000, "a:b@" * 200_000, "token" * 99_999):
        said = masked(f"it names {text} here")
        assert len(said) < 300
        assert "characters) here" in said
    # nothing of what may be a secret is left of a word that is cut
    assert "hunter" not in masked("mysql://me:hunter2" + "x" * 5000)
