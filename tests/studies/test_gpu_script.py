"""The script that measures unit costs: what it writes, and what it does in trouble."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from studies.gpu import _steps, run

if TYPE_CHECKING:
    from pathlib import Path

UNITS = {
    "picture",
    "picture processed",
    "picture encoded",
    "prompt",
    "whole prompt",
    "reply",
    "reply branching",
    "reply apart",
    "first token branching",
    "first token apart",
    "question",
    "swap",
    "solve uniform",
    "solve gptq",
    "solve awq",
    "gather",
    "bank",
    "finalize",
}


def written(out: Path) -> dict[str, Any]:
    (file,) = out.glob("gpu_*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.slow
def test_a_small_run_on_a_cpu_measures_every_step_and_unit(tmp_path: Path) -> None:
    assert run.main(["--out", str(tmp_path), "--device", "cpu", "--small"]) == 0
    found = written(tmp_path)
    assert list(found["steps"]) == [name for name, _, _ in _steps.STEPS]
    assert found["failed"] == found["left_out"] == {}
    assert found["units"].keys() >= UNITS
    assert all(unit["each"] >= 0 for unit in found["units"].values())
    assert {"card", "torch", "driver", "seconds", "date"} <= found["about"].keys()
    assert all(step["peak_bytes"] > 0 for step in found["steps"].values())
    for name in ("bank", "finalization"):
        assert found["steps"][name]["extrapolated"] is True
    # 11 questions of 2 pictures: 16 tokens of each and some words
    tokens = found["steps"]["generation"]
    assert 11 * 63 >= tokens["tokens apart"] >= tokens["tokens branching"] > 2 * 16


def given(monkeypatch: pytest.MonkeyPatch, **steps: Any) -> None:
    """Other steps, of which each may take a second or the seconds that it names."""
    rows = [(name, step, getattr(step, "seconds", 1.0)) for name, step in steps.items()]
    monkeypatch.setattr(_steps, "STEPS", tuple(rows))


def test_a_step_that_fails_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: Any) -> Any:
        raise RuntimeError("CUDA out of memory\nand much more")

    def works(_: Any) -> dict[str, Any]:
        return {"count": 3, "thing": {"each": 0.5, "of": "a thing"}}

    given(monkeypatch, first=fails, second=works)
    assert run.main(["--out", str(tmp_path), "--device", "cpu"]) == 1
    found = written(tmp_path)
    assert found["failed"] == {"first": "RuntimeError: CUDA out of memory"}
    assert found["steps"]["second"]["count"] == 3
    assert found["units"] == {"thing": {"each": 0.5, "of": "a thing"}}
    assert "first: FAILED, RuntimeError: CUDA out of memory" in capsys.readouterr().out


def test_what_would_not_end_in_time_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def heavy(_: Any) -> Any:
        raise AssertionError

    heavy.seconds = 1000.0  # type: ignore[attr-defined]
    given(monkeypatch, heavy=heavy, light=lambda _: {"count": 1})
    assert run.main(["--out", str(tmp_path), "--device", "cpu", "--budget", "99"]) == 0
    found = written(tmp_path)
    assert found["left_out"]["heavy"].startswith("takes about 1000 s, and 9")
    assert list(found["steps"]) == ["light"]


def test_a_step_that_does_not_end_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(_: Any) -> Any:
        while True:
            time.sleep(0.01)

    within = run.within
    monkeypatch.setattr(run, "within", lambda _: within(0.2))
    given(monkeypatch, endless=endless, light=lambda _: {"count": 1})
    assert run.main(["--out", str(tmp_path), "--device", "cpu"]) == 1
    found = written(tmp_path)
    assert found["failed"]["endless"].startswith("TimeoutError: stopped after ")
    assert list(found["steps"]) == ["light"]


def test_a_step_that_there_is_not_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run.main(["--out", str(tmp_path), "--device", "cpu", "--only", "swap"])
    assert "there is no step 'swap'; there are model, vision" in capsys.readouterr().err
