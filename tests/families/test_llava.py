"""LLaVA beyond the contract: processors, published sizes, its embedded model."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
import torch

from allocator.core.errors import ModelError
from allocator.core.plugins import load
from allocator.core.ports import Decoding, Sample
from allocator.embedded import HERE
from allocator.families import family_of
from evals.world.language import ask
from evals.world.scene import draw_scene, jpeg
from tests.families.processors import (
    check_answers,
    padding,
    save_processor,
    start_with_bos,
    two_samples,
    word_tokenizer,
)
from tests.states import made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model

LLAVA: Family = load("allocator.families", "llava")
GRID = [[16, 32], [32, 32]]
COUNTED = {
    "patch_size": 8,
    "vision_feature_select_strategy": "default",
    "num_additional_image_tokens": 1,
}
INSTRUCT = (
    "{% for message in messages %}{{ '[INST] ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] }}{% endfor %}{{ ' [/INST]' }}{% endfor %}"
)
QWEN = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] }}{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def save_1_5(folder: Path) -> None:
    from transformers import CLIPImageProcessorPil

    side = {"height": 16, "width": 16}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=side)
    words = start_with_bos(word_tokenizer("<image>", [], bos_token="<s>"))
    settings = {"processor_class": "LlavaProcessor", **COUNTED}
    save_processor(folder, words, pictures, settings, "")


def save_next(folder: Path) -> None:
    from transformers import LlavaNextImageProcessorPil

    side = {"height": 16, "width": 16}
    pictures = LlavaNextImageProcessorPil(
        size={"shortest_edge": 16}, crop_size=side, image_grid_pinpoints=GRID
    )
    words = start_with_bos(
        word_tokenizer("<image>", ["[INST]", "[/INST]"], bos_token="<s>")
    )
    settings = {"processor_class": "LlavaNextProcessor", **COUNTED}
    save_processor(folder, words, pictures, settings, INSTRUCT)


def save_onevision(folder: Path) -> None:
    from transformers import LlavaOnevisionImageProcessorPil

    pictures = LlavaOnevisionImageProcessorPil(
        size={"height": 16, "width": 16}, image_grid_pinpoints=GRID
    )
    words = word_tokenizer("<image>", ["<video>", "<|im_start|>", "<|im_end|>"])
    settings = {
        "processor_class": "LlavaOnevisionProcessor",
        "num_image_tokens": 4,
        "vision_feature_select_strategy": "full",
        "vision_aspect_ratio": "anyres_max_9",
    }
    save_processor(folder, words, pictures, settings, QWEN)


SAVE = {"1.5": save_1_5, "next": save_next, "onevision": save_onevision}
# a picture of 16 x 16 pixels is 4 tokens; one of 40 x 40 is shown as 2 x 2 tiles too:
# 4 rows of 4 and a newline; one of 32 x 64 as 1 x 2 tiles: 2 rows of 4 and a newline
TOKENS = {"1.5": [4, 4], "next": [24, 14], "onevision": [24, 14]}
TOLD = {
    "1.5": "USER: <image>\nwhat colour\n{} ASSISTANT:",
    "next": "[INST] <image>\nwhat colour\n{} [/INST]",
    "onevision": (
        "<|im_start|>user <image>\nwhat colour\n{}<|im_end|><|im_start|>assistant\n"
    ),
}
SHORT = "Answer the question using a single word or phrase."


@pytest.fixture(params=SAVE)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(variant: str, tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    made(LLAVA, folder, variant)
    SAVE[variant](folder)
    return LLAVA.load(folder, "cpu")


def test_two_pictures_of_different_shapes_are_answered(
    variant: str, model: Model, tmp_path: Path
) -> None:
    samples = two_samples(tmp_path)
    assert model.worded(samples[0]) == TOLD[variant].format(SHORT)
    state = model.inputs(samples)
    assert (state["input_ids"] == 4).sum(1).tolist() == TOKENS[variant]
    assert max(padding(state)) > 0
    check_answers(model, samples)


def test_the_first_token_stands_there_once(
    variant: str, model: Model, tmp_path: Path
) -> None:
    state = model.inputs(two_samples(tmp_path))
    # number 2 is <s>, which Qwen's tokenizers do not have
    wanted = 0 if variant == "onevision" else 1
    assert (state["input_ids"] == 2).sum(1).tolist() == [wanted, wanted]


def test_an_answer_stands_behind_its_prompt(
    variant: str, model: Model, tmp_path: Path
) -> None:
    del variant
    samples = two_samples(tmp_path)
    plain, answered = model.inputs(samples), model.inputs(samples, answered=True)
    red = model.processor.tokenizer.convert_tokens_to_ids("red")
    assert answered["input_ids"][:, -1].tolist() == [red, red]
    assert torch.equal(answered["input_ids"][:, :-1], plain["input_ids"])


def test_a_checkpoint_without_its_template_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    made(LLAVA, folder, "next")
    save_next(folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        LLAVA.load(folder, "cpu").inputs(two_samples(tmp_path))


def test_a_part_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    made(LLAVA, folder, "next")
    save_next(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "Cohere2VisionImageProcessor"}'
    )
    with pytest.raises(ModelError, match=r"no usable processor: .*torchvision"):
        LLAVA.load(folder, "cpu").inputs(two_samples(tmp_path))


@pytest.mark.parametrize("beams", [1, 3])
def test_the_embedded_model_replies_as_transformers_does(
    beams: int, tmp_path: Path
) -> None:
    folder = HERE / "tiny-llava"
    model = family_of(folder).load(folder, "cpu")
    random, samples = Random(7), []
    for number, kind in enumerate(("vqa", "caption", "vqa", "vqa")):
        scene, file = draw_scene(random), tmp_path / f"{number}.jpg"
        file.write_bytes(jpeg(scene))
        asked = ask(scene, random).text
        samples.append(Sample(str(number), file, kind, asked, ("red",)))
    state = model.inputs(samples)
    settings = {"max_new_tokens": 12, "num_beams": beams, "do_sample": False}
    with torch.inference_mode():
        wanted = model.module.generate(**state, **settings)
        found = model.reply_ids(prefixed(model, state), Decoding(12, beams))
    assert torch.equal(found, wanted[:, state["input_ids"].shape[1] :])
    assert len({tuple(row) for row in found.tolist()}) > 1
