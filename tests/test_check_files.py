from __future__ import annotations

import subprocess
import sys

import pytest

from tests.check_files import ROOT, faults, largest


def test_every_file_of_the_repository_passes() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout")
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "check_files.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("allocator/cli.py", 200_000),
        ("allocator/embedded/tiny-llava/model.safetensors", 6_500_000),
        ("allocator/embedded/tiny-blip2/retrieval/model.safetensors", 6_500_000),
        ("allocator/embedded/tiny-llava/tokenizer.json", 200_000),
        ("tests/model.safetensors", 200_000),
        ("studies/figures/front.svg", 500_000),
        ("studies/front.png", 500_000),
        ("studies/results.csv", 200_000),
        ("docs/front.png", 200_000),
    ],
)
def test_only_weights_and_figures_may_be_large(name: str, limit: int) -> None:
    assert largest(name) == limit


def test_a_file_may_be_as_large_as_the_limit_and_no_larger() -> None:
    assert faults("data.bin", b"\0" * 200_000) == []
    assert faults("data.bin", b"\0" * 200_001) == [
        "data.bin: 200001 bytes, at most 200000"
    ]


@pytest.mark.parametrize("content", [b"", b"one\n", b"one\n\ntwo\n", b" indented\n"])
def test_text_that_ends_in_one_line_break_passes(content: bytes) -> None:
    assert faults("a.txt", content) == []


@pytest.mark.parametrize("content", [b"one", b"one\n\n", b"\n\n"])
def test_any_other_end_is_a_fault(content: bytes) -> None:
    assert faults("a.txt", content) == [
        "a.txt: needs exactly one line break at its end"
    ]


@pytest.mark.parametrize("line", [b"two ", b"two\t", b"two\r", b"  "])
def test_a_space_at_the_end_of_a_line_is_a_fault(line: bytes) -> None:
    found = faults("a.txt", b"one\n" + line + b"\nthree\n")
    assert found == ["a.txt:2: space at the end of the line"]


def test_what_is_no_text_is_not_read_as_text() -> None:
    assert faults("model.safetensors", b"\x08\0\0 \n no end ") == []


def test_what_transformers_saved_is_left_as_it_was_saved() -> None:
    assert faults("allocator/embedded/tiny-llava/tokenizer.json", b"{} ") == []
    assert faults("allocator/embedded/README.md", b"{} ") != []
