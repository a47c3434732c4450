"""ARCHITECTURE.md names what is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.check_files import ROOT
from tests.test_layering import ROOMS
from tests.tree import PACKAGES, made

TEXT = (ROOT / "ARCHITECTURE.md").read_text()
MOST_WORDS = 20  # lines of the glossary


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def block(title: str) -> list[str]:
    """The lines of a section's literal block."""
    return section(title).split("```\n")[1].splitlines()


def test_the_tree_is_what_the_files_tell() -> None:
    assert block("Tree") == made()


def test_every_folder_of_tests_is_of_a_room_that_is_there() -> None:
    rooms = [line.rpartition(" Of ")[2] for line in block("Tree") if " Of " in line]
    assert len(rooms) > 10
    assert all((ROOT / room).is_dir() for room in rooms)


def test_the_tree_has_a_line_for_every_file_of_the_packages() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--", *(f"{name}/**.py" for name in PACKAGES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    here = [
        Path(name) for name in listed.stdout.splitlines() if (ROOT / name).is_file()
    ]
    wanted = sorted(file.name for file in here if file.name != "__init__.py")
    lines = [line.split()[0] for line in block("Tree")]
    assert sorted(name for name in lines if name.endswith(".py")) == wanted


def test_rooms_stand_in_the_order_of_the_layering_test() -> None:
    lines = [re.split(r" \| |\s{2,}", line) for line in block("Rooms")]
    for told, rooms in zip(lines, ROOMS, strict=True):
        assert tuple(told[: len(rooms)]) == rooms


def test_the_way_of_a_request_leads_through_files_that_exist() -> None:
    way = section("The way of a request")
    named = re.findall(r"`((?:quant/|evals/)?[a-z_]+/[a-z_]+\.py)`", way)
    assert len(named) > 15
    for name in named:
        assert (ROOT / name).is_file() or (ROOT / "allocator" / name).is_file(), name


def test_the_glossary_is_short() -> None:
    assert len(section("Glossary").strip().splitlines()) <= MOST_WORDS
