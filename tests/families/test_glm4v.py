"""GLM-V beyond the contract: its processor, its template."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.plugins import load
from allocator.core.ports import Decoding
from tests.families.processors import (
    check_lengths,
    check_pixels,
    save_processor,
    two_samples,
)
from tests.states import made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model

# another library's
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

FAMILY: Family = load("allocator.families", "glm4v")
SPECIAL = {
    "<|endoftext|>": 0,
    "<|user|>": 2,
    "<|assistant|>": 3,
    "<|image|>": 4,
    "<|video|>": 5,
    "<think>": 57,
    "</think>": 58,
    "[gMASK]": 59,
    "<|begin_of_image|>": 60,
    "<|end_of_image|>": 61,
    "<sop>": 62,
    "<|begin_of_video|>": 6,
    "<|end_of_video|>": 7,
}
# what stands behind a question that is to be answered at once
SILENT = "no" + "think"
WORDS = (
    "what colour is this answer the red question using a single word or phrase . "
    f"Answer Provide one - sentence caption ./ {SILENT} ?"
)
# as the published one begins, and ends where it is told not to think
TEMPLATE = (
    "[gMASK]<sop>\n"
    "{% for message in messages %}"
    "<|{{ message.role }}|>\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|begin_of_image|><|image|><|end_of_image|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}/"
    f"{SILENT}{{% endif %}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>\n"
    "{% endif %}{% endif %}"
)


def save_parts(folder: Path, variant: str) -> None:
    """Tokenizer, picture processor and template, in the files of the published ones."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    free = [n for n in range(64) if n not in SPECIAL.values()]
    words = dict(zip([*WORDS.split(), *map(str, range(64))], free, strict=False))
    tokens = Tokenizer(models.WordLevel({**SPECIAL, **words}, unk_token="?"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
    )
    name = "Glm46V" if variant == "4.6" else "Glm4v"
    pictures = getattr(transformers, f"{name}ImageProcessorPil")(
        patch_size=4, size={"shortest_edge": 8 * 8 * 2, "longest_edge": 64 * 64 * 2}
    )
    settings = {"processor_class": f"{name}Processor"}
    save_processor(folder, tokenizer, pictures, settings, TEMPLATE)


@pytest.fixture(params=FAMILY.variants)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    made(FAMILY, folder, request.param)
    save_parts(folder, request.param)
    return FAMILY.load(folder, "cpu")


def test_pictures_and_questions_become_a_batch(model: Model, tmp_path: Path) -> None:
    samples = two_samples(tmp_path)
    state = model.inputs(samples)
    check_lengths(model, samples, state)
    check_pixels(model, samples, state)
    # patches of 4 x 4 pixels, four of them to a token
    assert state["image_grid_thw"].tolist() == [[1, 10, 10], [1, 8, 16]]
    shown = state["input_ids"] == SPECIAL["<|image|>"]
    assert shown.sum(1).tolist() == [25, 32]
    assert torch.equal(state["mm_token_type_ids"].bool(), shown)
    told = model.prompt(samples[0])
    assert told.replace(" ", "").startswith("[gMASK]<sop><|user|><|begin_of_image|>")
    assert told.replace(" ", "").endswith(f"./{SILENT}<|assistant|><think></think>")


@pytest.mark.parametrize("beams", [1, 3])
def test_replies_are_those_of_transformers(
    model: Any, tmp_path: Path, beams: int
) -> None:
    state = model.inputs(two_samples(tmp_path))
    settings = {"max_new_tokens": 5, "num_beams": beams, "do_sample": False}
    with torch.inference_mode():
        found = model.reply_ids(prefixed(model, state), Decoding(5, beams))
        wanted = model.module.generate(**state, **settings)
    assert torch.equal(found, wanted[:, -found.shape[1] :])
