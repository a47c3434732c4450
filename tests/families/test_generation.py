"""Where replies end, and what of a checkpoint's advice on generating counts."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from transformers import InstructBlipForConditionalGeneration

from allocator.core.errors import ModelError
from allocator.core.ports import Decoding
from allocator.embedded import HERE
from allocator.families import family_of
from allocator.families._generation import KEPT, Ends, generate, named_ends
from allocator.families._made_inputs import made_inputs
from allocator.families._shrunk import shrunk
from studies.families.defaults import default_config
from tests.families.checkpoints import change
from tests.families.processors import two_samples
from tests.states import prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model

ROWS = 128
END, PAD = 2, 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The embedded LLaVA, whose every file names </s>, number 2."""
    folder = tmp_path / "model"
    shutil.copytree(HERE / "tiny-llava", folder)
    return folder


def loaded(folder: Path) -> Model:
    return family_of(folder).load(folder, "cpu")


def name(
    folder: Path, advice: Any = None, config: Any = None, text: Any = None
) -> None:
    """Let the files of a folder name these ends."""
    change(folder / "generation_config.json", eos_token_id=advice)
    parts = json.loads((folder / "config.json").read_text())
    parts["eos_token_id"], parts["text_config"]["eos_token_id"] = config, text
    (folder / "config.json").write_text(json.dumps(parts))


@pytest.mark.parametrize(
    ("named", "ends"),
    [
        ((), ()),
        ((7,), (7,)),
        (([7, 9],), (7, 9)),
        (([7, None], 8, 9), (7, 8, 9)),
        ((7, [7, 9]), (7, 9)),
        ((ROWS, -1, ROWS - 1), (ROWS - 1,)),
    ],
)
def test_ends_are_all_that_files_name_within_the_embedding(
    named: tuple[Any, ...], ends: tuple[int, ...], folder: Path
) -> None:
    name(folder, *named)
    assert named_ends(folder, ROWS) == Ends(ends)
    tokenizer = loaded(folder).processor.tokenizer
    assert named_ends(folder, ROWS, tokenizer) == Ends((*ends, END))


def test_what_a_class_supposes_is_no_end(folder: Path) -> None:
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    # transformers supposes 2 where a Llama names none
    del config["text_config"]["eos_token_id"]
    (folder / "config.json").write_text(json.dumps(config))
    assert named_ends(folder, ROWS) == Ends()


@pytest.mark.parametrize("wrong", ["</s>", 2.0, True, [[2]], {"a": 2}])
def test_an_end_that_is_no_number_is_refused(wrong: object, folder: Path) -> None:
    name(folder, config=wrong)
    with pytest.raises(ModelError, match="says that eos_token_id is"):
        named_ends(folder, ROWS)


def test_a_model_without_any_end_is_refused(folder: Path, tmp_path: Path) -> None:
    name(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="names no token that ends a reply"):
        loaded(folder).inputs(two_samples(tmp_path))


def test_texts_that_stop_are_ends_too(folder: Path) -> None:
    change(folder / "generation_config.json", stop_strings=["red", "is the"])
    tokenizer = loaded(folder).processor.tokenizer
    red = tokenizer.convert_tokens_to_ids("red")
    ends = named_ends(folder, ROWS, tokenizer)
    assert ends == Ends((END, red), ("is the",))
    ids = tokenizer("what is the", add_special_tokens=False).input_ids
    assert ends.reply(ids, tokenizer) == "what"


def test_nothing_behind_an_end_is_part_of_a_reply(folder: Path) -> None:
    """Neither padding that is a word to the tokenizer nor an end that is one."""
    tokenizer = loaded(folder).processor.tokenizer
    red, blue = tokenizer.convert_tokens_to_ids(["red", "blue"])
    assert Ends((blue,)).reply([red, blue, red, red], tokenizer) == "red"
    assert Ends((END,)).reply([red, END, blue], tokenizer) == "red"
    assert Ends((END,)).reply([red, blue], tokenizer) == "red blue"
    assert Ends((END,)).reply([END], tokenizer) == ""


ADVICE = {
    "do_sample": True,
    "temperature": 5.0,
    "top_p": 0.5,
    "num_beams": 3,
    "num_return_sequences": 2,
    "max_length": 3,
    "min_new_tokens": 5,
    "max_time": 1e-9,
    "return_dict_in_generate": True,
    "output_scores": True,
    "guidance_scale": 3.0,
    "cache_implementation": "static",
    "penalty_alpha": 0.6,
    "prompt_lookup_num_tokens": 3,
    "exponential_decay_length_penalty": [2, 2.0],
    "forced_eos_token_id": 9,
}


@pytest.mark.parametrize("name", ["tiny-llava", "tiny-blip2"])
def test_advice_on_chance_length_and_shape_changes_nothing(
    name: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(HERE / name, folder)
    samples = two_samples(tmp_path)
    before = replies(loaded(folder), samples)
    change(folder / "generation_config.json", **ADVICE)
    model = loaded(folder)
    advice = model.module.generation_config
    assert replies(model, samples) == before
    # a model that is handed on has its advice still
    assert model.module.generation_config is advice


# each of them alone is refused by transformers
@pytest.mark.parametrize("advice", [{"num_return_sequences": 3}, {"max_new_tokens": 0}])
def test_advice_that_transformers_refuses_changes_nothing(
    advice: dict[str, int], folder: Path, tmp_path: Path
) -> None:
    samples = two_samples(tmp_path)
    before = replies(loaded(folder), samples)
    change(folder / "generation_config.json", **advice)
    assert replies(loaded(folder), samples) == before


def replies(model: Model, samples: Any) -> list[str]:
    with torch.inference_mode():
        state = prefixed(model, model.inputs(samples))
        found: list[str] = model.predict([state], samples, Decoding(6), lambda _: None)
    return found


def test_advice_that_bars_or_weighs_words_counts(folder: Path, tmp_path: Path) -> None:
    samples = two_samples(tmp_path)
    model = loaded(folder)
    said = model.processor.tokenizer.convert_tokens_to_ids(replies(model, samples))
    assert "suppress_tokens" in KEPT
    change(folder / "generation_config.json", suppress_tokens=said)
    after = replies(loaded(folder), samples)
    assert not set(replies(model, samples)) & set(after)


@pytest.mark.parametrize("padding", [ROWS, -1, None, 20])
def test_padding_beyond_the_embedding_or_a_word_harms_nothing(
    padding: int | None, folder: Path, tmp_path: Path
) -> None:
    samples = two_samples(tmp_path)
    before = replies(loaded(folder), samples)
    change(folder / "generation_config.json", pad_token_id=padding)
    assert replies(loaded(folder), samples) == before
    assert padding != PAD


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_advice_that_cannot_be_read_is_said_before_weights_are_read(
    text: str, folder: Path
) -> None:
    (folder / "generation_config.json").write_text(text)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"generation_config\.json"):
        loaded(folder)


def test_a_part_that_writes_in_a_models_place_is_told_how_long() -> None:
    torch.manual_seed(0)
    module = InstructBlipForConditionalGeneration(
        shrunk(default_config("instructblip"))
    ).eval()
    advice = module.language_model.generation_config
    state = made_inputs(module)
    with torch.inference_mode():
        ids = generate(module, Decoding(3), Ends(ids=(2,)), **state)
    assert ids.shape[1] == state["input_ids"].shape[1] + 3
    assert module.language_model.generation_config is advice
