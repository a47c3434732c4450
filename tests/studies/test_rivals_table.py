"""What the table of systems answers, on cells made up."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from studies.rivals import cells, report
from studies.rivals.cells import Cells
from studies.rivals.intervals import drawn_means

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PICTURES, QUESTIONS, SETS = 50, 2, 4


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "PICTURES", PICTURES)
    monkeypatch.setattr(cells, "drawn_means", lambda rows: drawn_means(rows, draws=999))


def measured(folder: Path, gaps: dict[str, float]) -> Cells:
    """Cells in which each system is ahead of ours by so much, with some noise."""
    rng = np.random.default_rng(0)
    base = rng.choice([0.0, 100.0], size=SETS * PICTURES * QUESTIONS, p=[0.2, 0.8])
    for model in cells.MODELS:
        for bpw in cells.BUDGETS:
            values: dict[str, NDArray[np.float64]] = {
                name: base + gap + 0.1 * rng.normal(size=base.shape)
                for name, gap in {"allocate": 0.0, **gaps}.items()
            }
            np.savez_compressed(folder / f"{model}-{bpw}.npz", **values)
            systems = {name: {"bytes": 1000 * bpw} for name in values}
            about = json.dumps({"systems": systems})
            (folder / f"{model}-{bpw}.json").write_text(about)
    return Cells.read(folder)


def test_a_comparison_that_ours_wins(tmp_path: Path) -> None:
    found = measured(tmp_path, {"even mix": -2.0, "kl knapsack": -1.0})

    text = "\n".join(report.answers(found))

    assert found.systems == ("allocate", "kl knapsack", "even mix")
    assert text.count(": yes") == 4
    assert "least over kl knapsack: +1.00" in text


def test_a_rival_that_is_ahead_is_named_with_its_cells(tmp_path: Path) -> None:
    found = measured(tmp_path, {"even mix": -2.0, "modelopt kl": 1.5})

    first, second, third, fourth = report.answers(found)

    assert first.count("modelopt kl, tiny-") == 12
    assert "even mix" not in first
    assert "**no**" in second
    assert "**no**" in third
    assert "over modelopt kl, chosen in hindsight" in fourth


def test_a_lead_within_the_noise_is_none(tmp_path: Path) -> None:
    found = measured(tmp_path, {"autoscheme": 0.0})

    assert ": yes" in report.answers(found)[0]


def test_the_table_has_every_system_in_every_part(tmp_path: Path) -> None:
    found = measured(tmp_path, {"even mix": -2.0, "language end": -3.0})

    text = report.table(found)

    # scores of two models twice, differences of two, means
    assert text.count("| language end |") == 2 * 2 + 2 + 1
    assert text.count("| allocate |") == 2 * 2 + 1
    assert text.endswith("\n")
    assert not any(line.endswith(" ") for line in text.splitlines())


def test_a_system_that_is_missing_in_a_cell_is_left_out(tmp_path: Path) -> None:
    measured(tmp_path, {"even mix": -2.0, "autoscheme": -1.0})
    file = tmp_path / "tiny-llava-3.5.npz"
    kept = dict(np.load(file))
    del kept["autoscheme"]
    np.savez_compressed(file, **kept)

    assert Cells.read(tmp_path).systems == ("allocate", "even mix")
