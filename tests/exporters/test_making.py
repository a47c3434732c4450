"""What an export is made from: which trials there are, which budget was kept."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from optuna.trial import TrialState

from allocator.core.allocation import Allocation, Budget, Choice
from allocator.core.errors import SpecError, StudyError, UnknownNameError
from allocator.core.watch import Silent
from allocator.exporters import _making
from allocator.exporters._making import budget_of, measured_entry
from allocator.exporters._request import export_from
from allocator.study.entry import REASON, Entry

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.exporters._export import Export

ALLOCATION = Allocation((("a", Choice(4, "gptq")),))


def entry(number: int, state: TrialState, score: float | None = None, **of: Any) -> Any:
    about = of.pop("about", {})
    digest = ALLOCATION.digest
    return Entry(ALLOCATION, digest, state, score, about, number, **of)


ENTRIES = (
    entry(0, TrialState.COMPLETE, 98.0),
    entry(1, TrialState.COMPLETE, 90.0),
    entry(2, TrialState.PRUNED),
    entry(3, TrialState.FAIL, about={REASON: "scores nan"}),
    entry(4, TrialState.RUNNING),
    entry(5, TrialState.COMPLETE, superseded=True, past=91.0),
    entry(6, TrialState.COMPLETE, 92.0),
)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (2, "passed over after a look"),
        (3, "it failed (scores nan)"),
        (4, "it is being measured"),
        (5, "its cells have been made anew"),
        (99, "there is none"),
        (-1, "there is none"),
    ],
)
def test_a_trial_that_was_not_measured_is_refused_with_those_that_were(
    number: int, why: str
) -> None:
    with pytest.raises(StudyError) as caught:
        measured_entry(ENTRIES, number, "mine")
    told = str(caught.value)
    assert f"study 'mine' has no measured trial {number}" in told
    assert why in told
    assert told.endswith("(measured: 0 to 1, 6)")


def test_a_measured_trial_is_found_by_its_number() -> None:
    assert measured_entry(ENTRIES, 6, "mine").score == 92.0


def test_a_search_without_a_budget_kept_none() -> None:
    kept = {"goal": "budget", "budget": {"bpw": 4.5, "scope": "quantized"}}
    assert budget_of(kept) == Budget(4.5, "bpw", "quantized")
    assert budget_of({**kept, "goal": "front"}) is None


def unmade(options: Any, wanted: Any, watch: Any) -> Export:
    del options, wanted, watch
    raise AssertionError("refused before anything is made")


def test_formats_and_what_they_cannot_be_asked_are_refused_first(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    with pytest.raises(UnknownNameError, match="Did you mean 'plan'"):
        export_from(unmade, "plam", out, {}, Silent())
    with pytest.raises(SpecError, match="format plan has no --scales"):
        export_from(unmade, "plan", out, {"scales": "fp16"}, Silent())
    with pytest.raises(UnknownNameError, match="known: fp16, fp32"):
        export_from(unmade, "mlx", out, {"scales": "fp8"}, Silent())
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(SpecError, match="in the way"):
        export_from(unmade, "plan", tmp_path / "mine", {}, Silent())


@pytest.mark.parametrize(
    ("needs", "kinds", "prompt"),
    [
        ("reply", ("caption", "vqa"), "vqa"),
        ("reply", ("caption",), "caption"),
        ("ranking", (), "match"),
    ],
)
def test_without_data_logits_are_compared_on_drawn_pictures(
    needs: str,
    kinds: tuple[str, ...],
    prompt: str,
    drawn_world: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_making, "ensure_world", lambda _: drawn_world)
    setup: Any = SimpleNamespace(samples={}, task=SimpleNamespace(needs=needs))
    model: Any = SimpleNamespace(kinds=kinds)
    found = _making.samples_of(setup, model)
    assert len(found) == 8
    assert {sample.prompt for sample in found} == {prompt}
    # its own come first
    setup.samples = {"calibration": found[3:]}
    assert _making.samples_of(setup, model) == found[3:]


def test_a_plan_is_not_replaced_by_its_own_export(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.write_text("{}")
    source = partial(_making.export_of_plan, file)
    with pytest.raises(SpecError, match=r"lies in .*, which would be replaced"):
        export_from(source, "plan", tmp_path, {"force": True}, Silent())
    assert file.read_text() == "{}"
