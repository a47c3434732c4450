"""The adapter to lmms-eval, where that is installed: tasks as its users write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PIL import Image

from allocator.core.errors import DataError
from evals.lmms import lmms_task
from evals.splits import check_disjoint
from tests.evals.lmms_double import chosen, pixels, rows

if TYPE_CHECKING:
    from pathlib import Path

YAML = """
task: colors
dataset_path: parquet
dataset_kwargs:
  data_files: {train: train.parquet, test: test.parquet}
training_split: train
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
generation_kwargs: {max_new_tokens: 12, temperature: 0, do_sample: false}
filter_list:
  - name: small
    filter: [{function: lowercase}, {function: take_first}]
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
lmms_eval_specific_kwargs:
  default: {pre_prompt: "", post_prompt: " One word."}
metadata:
  - version: 0.3
"""
SCORED = """
include: colors.yaml
task: colors_scored
training_split: null
process_results: !function utils.results
metric_list:
  - {metric: points, aggregation: !function utils.total, higher_is_better: true}
  - {metric: misses, aggregation: mean, higher_is_better: false}
  - {metric: best, aggregation: !function utils.best, higher_is_better: true}
"""
UTILS = """
def visual(doc):
    return [doc["image"].convert("RGB")]

def text(doc, lmms_eval_specific_kwargs):
    return doc["question"] + lmms_eval_specific_kwargs["post_prompt"]

def results(doc, results):
    right = float(results[0] == doc["answer"])
    return {"points": {"score": right}, "misses": 1 - right, "best": right}

def total(items):
    return sum(item["score"] for item in items) / len(items) * 100

def best(items):
    return max(items)
"""


@pytest.fixture
def colors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two tasks as lmms-eval's users write them, and their data."""
    for name in ("HF_HOME", "HF_DATASETS_CACHE", "LMMS_EVAL_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("lmms_eval.tasks")
    folder = tmp_path / "tasks"
    folder.mkdir()
    contents = {"colors.yaml": YAML, "scored.yaml": SCORED, "utils.py": UTILS}
    for name, content in contents.items():
        (folder / name).write_text(content)
    for name, numbers in {"train": range(300, 320), "test": range(24)}.items():
        given = datasets.Dataset.from_list(rows(numbers))
        given.to_parquet(folder / f"{name}.parquet")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_real_lmms_eval_loads_and_scores_a_task_of_ones_own(
    colors: Path, tmp_path: Path
) -> None:
    task = lmms_task("colors", colors)
    assert task.max_new_tokens == 12
    samples = chosen(task, tmp_path)
    check_disjoint(**samples)
    sizes = {split: len(part) for split, part in samples.items()}
    assert sizes == {"calibration": 20, "search": 12, "evaluation": 36}
    given = rows(range(24))
    for sample in samples["evaluation"]:
        row = given[int(sample.id.removeprefix("test-"))]
        assert sample.text == f"{row['question']} One word."
        assert sample.references == (row["answer"],)
        with Image.open(sample.image) as kept:
            assert pixels(kept) == pixels(row["image"])
    # the task's own filter makes small letters of the first reply
    replies = [s.references[0].upper() for s in samples["evaluation"]]
    replies[:9] = ["nothing"] * 9
    score = task.score(replies, samples["evaluation"])
    assert score.values == (0.0,) * 9 + (1.0,) * 27
    assert score.mean == 0.75


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_metrics_of_the_real_lmms_eval_are_means_or_refused(
    colors: Path, tmp_path: Path
) -> None:
    task = lmms_task("colors_scored", colors)
    samples = chosen(task, tmp_path)
    assert len(samples["calibration"]) == 3
    replies = [sample.references[0] for sample in samples["search"]]
    assert task.score(["", *replies[1:]], samples["search"]).values[:2] == (0.0, 100.0)
    with pytest.raises(DataError, match="misses of lmms:colors_scored is not stated"):
        lmms_task("colors_scored@misses", colors)
    with pytest.raises(DataError, match="best of lmms:colors_scored@best is 1"):
        lmms_task("colors_scored@best", colors)
    with pytest.raises(DataError, match="did you mean 'colors_scored'"):
        lmms_task("color_scored", colors)
