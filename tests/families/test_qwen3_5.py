"""Qwen3.5 beyond the contract: its tokenizer, its template, what its files hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from allocator.core.plugins import load
from allocator.core.ports import Decoding
from allocator.families import unread_files
from tests.families import test_qwen_vl as qwen_vl
from tests.families.processors import check_lengths, padding, two_samples
from tests.states import made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model

FAMILY: Family = load("allocator.families", "qwen3_5")
LETTERS = "abcdefghijklmnopqrstuvwxyzAHPWY.,:?-<>/0123456789"
# the published one begins a thought unless it is told not to, and ends it then at once
TEMPLATE = qwen_vl.TEMPLATE.replace(
    "<|im_start|>assistant\n{% endif %}",
    "<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}{% endif %}",
)


def save_parts(folder: Path) -> None:
    """As those of Qwen-VL, but that transformers insists on bytes as tokens."""
    from transformers import Qwen3_5Tokenizer

    qwen_vl.save_parts(folder)
    taken = qwen_vl.SPECIAL.values()
    free = (n for n in range(64) if n not in taken)
    # a space and the end of a line, as bytes are written
    letters = dict(zip(["\u0120", "\u010a", *LETTERS], free, strict=False))
    tokenizer = Qwen3_5Tokenizer(
        vocab={**qwen_vl.SPECIAL, **letters},
        merges=[],
        eos_token="<|im_end|>",
        additional_special_tokens=list(qwen_vl.SPECIAL),
    )
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.json").unlink()
    (folder / "chat_template.jinja").write_text(TEMPLATE)


@pytest.fixture(params=FAMILY.variants)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    folder = tmp_path / "model"
    made(FAMILY, folder, request.param)
    save_parts(folder)
    return FAMILY.load(folder, "cpu")


def test_it_is_asked_for_an_answer_and_no_thought(model: Model, tmp_path: Path) -> None:
    samples = two_samples(tmp_path)
    state = model.inputs(samples)
    check_lengths(model, samples, state)
    told = model.prompt(samples[0])
    assert told.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert "<|vision_start|>[<|image_pad|> x " in told


@pytest.mark.parametrize("beams", [1, 3])
def test_padding_in_front_is_in_no_recurrent_state(
    model: Any, tmp_path: Path, beams: int
) -> None:
    samples, decoding = two_samples(tmp_path), Decoding(5, beams)
    together = model.inputs(samples)
    assert max(padding(together)) > 4
    with torch.inference_mode():
        found = model.reply_ids(prefixed(model, together), decoding)
        for sample, ids in zip(samples, found, strict=True):
            state = model.inputs([sample])
            alone = model.reply_ids(prefixed(model, state), decoding)[0]
            assert alone.tolist() == ids[: len(alone)].tolist()
            wanted = model.module.generate(
                **state, max_new_tokens=5, num_beams=beams, do_sample=False
            )
            assert alone.tolist() == wanted[0, -len(alone) :].tolist()


@pytest.mark.parametrize("mapped", [False, True])
def test_blocks_that_guess_ahead_are_neither_read_nor_counted(
    mapped: bool, tmp_path: Path
) -> None:
    made(FAMILY, tmp_path)
    spec = FAMILY.spec(tmp_path)
    file = tmp_path / "model.safetensors"
    more = {"mtp.fc.weight": torch.ones(64, 128), "mtp.norm.weight": torch.ones(64)}
    save_file({**load_file(file), **more}, file, {"format": "pt"})
    assert FAMILY.spec(tmp_path) == spec
    assert unread_files(tmp_path) == ("a part mtp (2 tensors)",)
    module = FAMILY.load(tmp_path, "cpu", mapped=mapped).module
    assert sum(p.numel() for p in module.parameters()) == spec.parameters
