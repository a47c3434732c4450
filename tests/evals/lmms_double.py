"""A small stand-in for lmms-eval 0.7: its `TaskManager`, and tasks to put into it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from PIL import Image

from allocator.core.ports import SPLITS, Selection
from evals.lmms import lmms_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from allocator.core.ports import Sample, Split, Task

COLORS = ("red", "green", "blue", "black")
SETTINGS: dict[str, Any] = {"doc_to_visual": "image", "output_type": "generate_until"}


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (number % 256, number // 256, 7))


def rows(numbers: range, per_image: int = 2) -> list[dict[str, Any]]:
    """Questions about pictures, some for each; every fourth answer is the same."""
    return [
        {"image": picture(n), "question": f"{n}, {i}?", "answer": COLORS[n % 4]}
        for n in numbers
        for i in range(per_image)
    ]


class Filters:
    """A `FilterEnsemble`: its first reply, and the chain's name."""

    name = "none"

    def apply(self, instances: list[Any], docs: list[Any]) -> None:
        for instance, _ in zip(instances, docs, strict=True):
            instance.filtered_resps[self.name] = instance.resps[0].strip()


def mean(items: list[Any]) -> float:
    return sum(items) / len(items)


def percent(items: list[Any]) -> float:
    return 100 * mean(items)


def mean_of_entries(items: list[Any]) -> float:
    return mean([item["score"] for item in items])


def largest(items: list[Any]) -> float:
    return float(max(items))


def exact(row: dict[str, Any], replies: list[str]) -> float:
    return float(replies[0] == row["answer"])


@dataclass
class Source:
    """What `ConfigurableTask` shows of itself."""

    parts: dict[str, list[dict[str, Any]]]
    process: Callable[[dict[str, Any], list[str]], Any] = exact
    aggregate: Callable[[list[Any]], float] = mean
    higher: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    pictures: int = 1

    def __post_init__(self) -> None:
        self.config = SimpleNamespace(
            metadata=[{"version": 1.0}],
            generation_kwargs={"max_new_tokens": 16},
            test_split="test",
            validation_split=None,
            training_split="train" if "train" in self.parts else None,
            doc_to_choice=None,
        )
        self.dataset = self.parts
        self.dataset_no_image = {
            name: [{k: v for k, v in row.items() if k != "image"} for row in part]
            for name, part in self.parts.items()
        }
        self._filters = [Filters()]

    def doc_to_visual(self, row: dict[str, Any]) -> list[Image.Image]:
        return [row["image"]] * self.pictures

    def doc_to_text(self, row: dict[str, Any]) -> str:
        return f"{row['question']}\nAnswer with one word."

    def doc_to_target(self, row: dict[str, Any]) -> Any:
        return row["answer"]

    def process_results(self, row: dict[str, Any], replies: list[str]) -> Any:
        value = self.process(row, replies)
        return {"exact_match": value, "other": value}

    def aggregation(self) -> dict[str, Any]:
        return {"exact_match": self.aggregate, "other": self.aggregate}

    def higher_is_better(self) -> dict[str, bool]:
        return {"exact_match": self.higher, "other": self.higher}


class Library:
    """The two modules of lmms-eval that are used, and the tasks in it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.tasks: dict[str, Source] = {}
        found = self.tasks

        class TaskManager:
            def __init__(self, verbosity: str, include_path: str | None) -> None:
                assert (verbosity, include_path) == ("ERROR", None)
                kinds = {name: {"type": "task", "yaml_path": name} for name in found}
                self.task_index = {**kinds, "to": {"type": "group"}}
                self.all_tasks = list(self.task_index)
                self.all_subtasks = list(kinds)

            def load_task_or_group(self, name: str) -> dict[str, Source]:
                return {name: found[name]}

        modules: dict[str, dict[str, Any]] = {
            "loguru": {"logger": SimpleNamespace(disable=str)},
            "lmms_eval": {},
            "lmms_eval.tasks": {"TaskManager": TaskManager},
            "lmms_eval.utils": {"load_yaml_config": self.settings},
        }
        for name, content in modules.items():
            module = ModuleType(name)
            module.__dict__.update(content)
            patch.setitem(sys.modules, name, module)

    def settings(self, path: str, *, mode: str) -> dict[str, Any]:
        assert mode == "simple"
        return {**SETTINGS, **self.tasks[path].settings}

    def task(self, parts: dict[str, list[Any]], name: str = "toy", **how: Any) -> Task:
        self.tasks["toy"] = Source(parts, **how)
        return lmms_task(name)


def chosen(
    task: Task, data: Path, selection: Selection | None = None
) -> dict[Split, tuple[Sample, ...]]:
    asked = selection or Selection()
    return {split: task.samples(data, split, asked) for split in SPLITS}


def pixels(image: Image.Image) -> bytes:
    return image.convert("RGB").tobytes()
