"""A stage that says which it is where another library fails in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from allocator.core.errors import in_one_sentence

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Stage, State


def guarded(folder: Path, stage: Stage) -> Stage:
    """A stage of the checkpoint in a folder, whose errors are one sentence."""

    def run(state: State) -> State:
        with in_one_sentence(f"{folder} fails in stage {stage.name}"):
            return stage.run(state)

    return replace(stage, run=run)
