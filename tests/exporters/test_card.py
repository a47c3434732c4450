"""The card says what was measured, what is stored, and how to load it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.allocation import Choice
from allocator.core.plan import plan_json
from allocator.core.study import StudySpec
from allocator.exporters._card import shown_model, write_card
from allocator.exporters._export import Export
from allocator.exporters._making import Wanted
from tests.exporters.dense import Dense
from tests.exporters.models import checkpoint_of, random_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from allocator.exporters._checkpoint import Checkpoint

FOUND = {
    "format": "dense",
    "bytes": 1_234_567,
    "bpw": 4.25,
    "bpw_quantized": 3.75,
    "loader": "transformers 5.24.0",
    "linears": 29,
    "weights": 0.0,
    "logits": 3e-7,
}
SCORE = {
    "score": 78.25,
    "ci95": [76.0, 80.5],
    "metric": "VQA accuracy (%)",
    "task": "vqav2",
    "full": 81.5,
    "confirmed": True,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("model")
    random_model(folder, "llava", 128)
    return checkpoint_of(folder, (4, 16, 3), granularity="component")


def card_of(
    made: Checkpoint,
    folder: Path,
    score: Mapping[str, Any] | None = SCORE,
    model: str = "llava-hf/llava-1.5-7b-hf",
    fmt: str = "dense",
    **asked: Any,
) -> str:
    study = StudySpec("16", "vqav2", model=model, **asked)
    plan = plan_json(study, made.spec, made.allocation)
    command = Wanted("dense", "./out").command("study")
    export = Export(plan, lambda: made, score, command=command)
    write_card(export, Dense(), folder, "out", {**FOUND, "format": fmt})
    return (folder / "README.md").read_text()


def test_it_has_score_sizes_bits_and_the_command(
    made: Checkpoint, tmp_path: Path
) -> None:
    card = card_of(made, tmp_path)
    assert "| score | 78.25 (95 % interval 76.00 to 80.50) |" in card
    assert "| full precision | 81.50 |" in card
    assert "| size | 1,234,567 bytes |" in card
    assert "4.250 of the whole model" in card
    assert "3.750 of what is in groups" in card
    assert "not confirmed" not in card
    assert "    allocate export study --format dense --out ./out\n" in card
    assert '```python\nopen("out/model.safetensors")\n```' in card
    assert "transformers 5.24.0" in card
    assert "29 quantized linears, equal to the last bit" in card
    # groups in turn: 4 bits, 16, 3
    rows = {row[0]: row[1:] for row in re.findall(r"^\| (\w+) \| (.*) \|$", card, re.M)}
    assert rows["vision"][0].endswith("| 4.00 | 1 at 4/uniform")
    assert rows["connector"][0].endswith("| 16.00 | 1 at 16")
    assert rows["language"][0].endswith("| 3.00 | 1 at 3/uniform")
    assert f"{made.spec.rest:,} parameters outside the groups" in card
    assert "`lm_head`" in card


def test_single_linears_that_differ_are_counted_and_named(
    made: Checkpoint, tmp_path: Path
) -> None:
    name = made.spec.linears[0].name
    assert "single linear" not in card_of(made, tmp_path)
    other = replace(made, allocation=made.allocation.but({name: Choice(16)}))
    card = card_of(other, tmp_path)
    assert f"1 single linear differs from its group: {name} 16." in card
    # the mean counts it: of the tower's weights those of one linear have 16 bits, not 4
    own = [linear for linear in made.spec.linears if linear.component == "vision"]
    share = own[0].weights / sum(linear.weights for linear in own)
    assert f"| {4 + 12 * share:.2f} | 1 at 4/uniform" in card


def test_a_trial_is_not_confirmed(made: Checkpoint, tmp_path: Path) -> None:
    card = card_of(made, tmp_path, {**SCORE, "confirmed": False, "ci95": None})
    assert "| score | 78.25 on the search set, not confirmed |" in card
    assert "interval" not in card


def test_the_command_that_scores_it_again_asks_in_the_same_words(
    made: Checkpoint, tmp_path: Path
) -> None:
    given = {"prompt": "Q: {question} A:", "max_new_tokens": 32, "skip_broken": True}
    card = card_of(made, tmp_path, fmt="compressed-tensors", **given)
    line = next(x for x in card.splitlines() if "allocate evaluate" in x)
    assert line.endswith(
        "--data DATA --prompt 'Q: {question} A:' --max-new-tokens 32 --skip-broken"
    )
    plain = card_of(made, tmp_path, fmt="compressed-tensors")
    assert "--task vqav2 --data DATA\n" in plain
    listed = card_of(made, tmp_path, fmt="compressed-tensors", columns=("a=b", "c=d"))
    assert "--columns a=b,c=d" in listed


def test_a_plan_by_hand_was_not_measured(made: Checkpoint, tmp_path: Path) -> None:
    assert "| score | not measured |" in card_of(made, tmp_path, None)


def test_what_hubs_read_names_the_published_model(
    made: Checkpoint, tmp_path: Path
) -> None:
    head = "---\nbase_model: llava-hf/llava-1.5-7b-hf\ntags:\n- dense\n"
    assert card_of(made, tmp_path).startswith(head)


def test_no_folder_of_the_user_is_told(made: Checkpoint, tmp_path: Path) -> None:
    card = card_of(made, tmp_path, model=str(tmp_path / "my-llava"))
    assert "| model | my-llava |" in card
    assert str(tmp_path) not in card
    assert "base_model" not in card
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert shown_model(f"{tmp_path}/a/b") == "b"


def test_a_folder_that_looks_like_a_hub_id_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert shown_model("models/mine") == "mine"
    assert shown_model("models/theirs") == "models/theirs"
    assert shown_model("./models/theirs") == "theirs"


def test_the_command_has_no_password() -> None:
    url = "postgresql://me:secret@host/studies"
    told = Wanted("mlx", "a b", {"scales": "fp16"}).command("s", storage=url)
    assert told == (
        "allocate export s --format mlx --out 'a b' --scales fp16 --storage "
        "'postgresql://me:***@host/studies'"
    )
