"""What is asked, and how long a reply may be, are part of what a study is of."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from allocator.bench.contents import Contents
from allocator.bench.loading import recipe_of
from allocator.bench.planned import planned_request
from allocator.bench.prepare import files_digest, prepare, weights_digest
from allocator.bench.tasks import asked_task, read_samples
from allocator.core.plan import Plan, plan_json
from allocator.core.study import StudySpec
from allocator.embedded import HERE
from allocator.families import checkpoint_files
from tests.worlds import homes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

GIVEN: tuple[dict[str, Any], ...] = (
    {},
    {"prompt": "what is {question}"},
    {"prompt": "{question} answer"},
    {"max_new_tokens": 11},
    {"max_new_tokens": 12},
)


def test_other_words_and_another_length_make_another_study(
    tmp_path: Path, drawn_world: Path
) -> None:
    """And a bank of their own, where the words are those that calibrate it."""
    with homes(tmp_path, drawn_world):
        asked = StudySpec("4.0", "vqav2", model="tiny-llava", calibration=4)
        setup = prepare(asked, ("calibration",))
        found = []
        for given in GIVEN:
            own = replace(asked, **given)
            task = asked_task(own, Contents())
            samples = read_samples(own, task, ("calibration",))
            found.append(replace(setup, asked=own, task=task, samples=samples))
        assert found[0].identity == setup.identity
        assert len({each.identity for each in found}) == len(GIVEN)
        # how long a reply may be decides no cell
        banks = [recipe_of(each).digest for each in found]
        assert banks[0] == banks[3] == banks[4]
        assert len(set(banks)) == 3


def test_a_plan_is_scored_in_its_words_unless_others_are_given(
    tmp_path: Path, drawn_world: Path
) -> None:
    model = HERE / "tiny-llava"
    asked = StudySpec("16", "vqav2", model=str(model), **GIVEN[1], **GIVEN[3])
    with homes(tmp_path, drawn_world):
        setup = prepare(asked, ())
    plan = Plan.from_json(plan_json(asked, setup.model, setup.space.full), "plan.json")
    again = planned_request({}, plan, None)
    assert (again.prompt, again.max_new_tokens) == ("what is {question}", 11)
    other = planned_request(GIVEN[2], plan, None)
    assert (other.prompt, other.max_new_tokens) == ("{question} answer", 11)


def test_a_checkpoint_that_is_told_not_to_think_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = shutil.copytree(HERE / "tiny-llava", tmp_path / "model")
    contents, template = Contents(), model / "chat_template.jinja"
    template.write_text("{{ messages }}")
    held = files_digest(model, checkpoint_files(model), contents)
    # what was measured before stays good where nothing is told
    assert weights_digest(model, contents) == held
    template.write_text("{{ messages }}{{ enable_thinking }}")
    held = files_digest(model, checkpoint_files(model), contents)
    assert weights_digest(model, contents) != held
