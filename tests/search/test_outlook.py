from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from allocator.bench.measuring import Measured
from allocator.bench.needs import Needs
from allocator.core.forecast import Forecast, Part, Savings
from allocator.core.unit_costs import Bytes, Lengths, Unit, UnitCosts
from allocator.report.text_forecast import print_outlook
from allocator.search.begun import done_of
from allocator.search.counts import Done
from allocator.search.outlook import Outlook
from allocator.search.propose import propose
from allocator.search.run import baselines
from tests.searches import asked_for, search_of

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.spec import ModelSpec

GB = 10**9


def outlook(device: int = 0) -> Outlook:
    """A model of 7 G weights: an hour of work."""
    nothing, one = Unit(0.0, True), Unit(1.0)
    units = UnitCosts(
        *(nothing, nothing, nothing, nothing, nothing, nothing, nothing),
        solve={"gptq": nothing},
        finalize=nothing,
        tune=nothing,
        proposal=one,
    )
    lengths = Lengths(vision=577, connector=576, prompt=620, picture=580, reply=3)
    parts = (
        Part("bank", solved={"gptq": 7e9}),
        Part("search", scored=20_000.0, looked=1_000.0, swaps=800.0, swapped=1.2e12),
        Part("finalists", finalized=28e9),
    )
    return Outlook(
        Forecast(parts, 7 * GB, Savings(looked=0.5)),
        Needs({}, 52 * GB, 14 * GB, Bytes(66 * GB, 4 * GB, device), room()),
        Bytes(66 * GB, 6 * GB, device),
        Measured(units, lengths, False, 1.0, 0.0, 0.0, 3.0),
        {"other": 30.0, "bank": 480.0, "search": 2_000.0, "finalists": 0.2},
    )


def room() -> Bytes:
    return Bytes(200 * GB, 64 * GB, 80 * GB)


def test_what_a_search_will_take_is_said_in_three_lines() -> None:
    # 20,000 replies to 620 tokens, of 3; 1,000 looks at half of 620
    assert outlook(device=20 * GB).sentences == [
        "to do: 20,000 samples to score, 1,000 to look at (12.8 M tokens through the "
        "language model), 800 swaps of 1.2 T weights, 4 allocations quantized in "
        "sequence",
        "to make: 52 GB of bank and 14 GB of finalized weights on the disk (200 GB "
        "free); at most about 6 GB of 64 GB memory, 20 GB of 80 GB on the GPU",
        "time: about 42 min (search 33 min, bank 8 min, other 30 s)",
    ]
    assert "GPU" not in " ".join(outlook().sentences)


def test_an_outlook_is_plain_data() -> None:
    found = json.loads(json.dumps(outlook().to_json()))
    assert found["total"]["scored"] == 20_000
    assert found["total"]["solved"] == {"gptq": 7 * GB}
    assert [part["name"] for part in found["parts"]] == ["bank", "search", "finalists"]
    assert found["seconds"]["total"] == pytest.approx(2_510.2)
    assert found["bytes"] == {
        **{"disk": 66 * GB, "host": 6 * GB, "device": 0},
        **{"bank": 52 * GB, "finalized": 14 * GB},
    }
    assert found["unit_costs"]["proposal"] == {"seconds": 1.0, "source": "assumed"}
    assert found["unit_costs"]["solve gptq"]["source"] == "measured"


def test_a_dry_run_prints_parts_and_what_was_assumed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_outlook(outlook())
    told = capsys.readouterr().out
    assert all(name in told for name in ("bank", "search", "finalists", "1.2 T"))
    assert "Measured here in 3 s; assumed: proposal." in told


def test_a_study_tells_what_is_done(toy: ModelSpec, tmp_path: Path) -> None:
    url = f"{tmp_path}/studies.log"
    asked = asked_for(trials=2, storage=url, study="study")
    search = search_of(toy, url, asked)
    search.setup.study = "study"  # type: ignore[misc]
    solved = {"awq": toy.weights}
    before = done_of(search.setup, solved)
    # its prior and its tables of linears come with it; 9 groups and 11 linears at three
    # widths by two methods
    assert before == Done(
        probed=9 * 6, gradients=True, probed_linears=11 * 6, solved=solved
    )
    baselines(search)
    propose(search)
    found = done_of(search.setup, solved)
    assert (found.full, found.uniform, found.made) == (True, 4, 2)
    assert not found.concluded


def test_where_there_is_no_study_nothing_is_done(
    toy: ModelSpec, tmp_path: Path
) -> None:
    url = f"{tmp_path}/studies.log"
    search = search_of(toy, url, asked_for(storage=f"{tmp_path}/others.log"))
    search.setup.study = "study"  # type: ignore[misc]
    assert done_of(search.setup, {}) == Done()
