"""`inspect` of a model that no family names: how it was placed, and what stays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import allocator
from allocator.cli.search import main
from allocator.core.plugins import load
from tests.states import made

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ViP-LLaVA on disk."""
    path: Path = tmp_path_factory.mktemp("auto")
    made(load("allocator.families", "auto"), path, "vipllava")
    return str(path)


def test_it_says_that_placement_was_by_structure_and_prints_it(folder: str) -> None:
    shown = CliRunner().invoke(main, ("inspect", "--model", folder)).stdout
    assert f"{folder} (auto): " in shown
    assert "placed by its structure: no family names this architecture" in shown
    found = allocator.inspect(folder)
    assert f"\n{found['declaration']}\n" in shown
    assert 'Row(\n            "vision",' in found["declaration"]
    assert found["declaration"].startswith("Structure(\n")
    assert {each["name"] for each in found["components"]} == {
        "vision",
        "connector",
        "language",
    }
    assert found["left_out"] == [
        {
            "name": "lm_head",
            "weights": found["left_out"][0]["weights"],
            "reason": "output head, kept at 16 bit unless included",
        }
    ]


def test_json_has_the_declaration_and_none_where_a_family_declares(folder: str) -> None:
    for model, is_found in ((folder, True), ("tiny-llava", False)):
        told = CliRunner().invoke(main, ("inspect", "--model", model, "--json"))
        found = json.loads(told.stdout)["declaration"]
        assert (found is not None) == is_found
        assert found == allocator.inspect(model)["declaration"]
