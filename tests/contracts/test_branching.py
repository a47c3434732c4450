"""Every family replies the same whether questions branch from their picture or not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.plugins import load
from allocator.core.ports import Decoding, Sample
from allocator.families._sharing import PICTURE
from tests.families.parts import PARTS
from tests.families.processors import two_samples
from tests.states import VARIANTS, logits_of, made, prefixed

if TYPE_CHECKING:
    from torch import Tensor

    from allocator.core.ports import State

# another library's
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

TOKENS = 5
# which of two pictures is asked, and what: prompts of several lengths, mixed
ASKED = (
    (0, "what colour is this"),
    (1, "the red what"),
    (0, "what is"),
    (1, "the answer is red this colour"),
)
# a model that sees all that it is asked about at once, as the others do
WIDE = "wide window"
CASES = [
    *VARIANTS,
    ("gemma3", WIDE),
    ("gemma4", f"small {WIDE}"),
    ("gemma4", f"large {WIDE}"),
]
NAMES = ["-".join(pair) for pair in CASES]
# they read a prompt both ways, do not see what is 4 tokens behind, or keep a state of
# what they have read in which padding would be
REFUSED = {
    "paligemma-1",
    "paligemma-2",
    "blip2-t5",
    "gemma3-gemma3",
    "gemma4-small",
    "gemma4-large",
    "gemma4-moe",
    "minicpmv4_6-minicpmv4_6",
    "qwen3_5-dense",
    "qwen3_5-moe",
}


@dataclass(frozen=True)
class Case:
    """A tiny model with a processor, and several questions about two pictures."""

    name: str
    model: Any
    samples: list[Sample]
    shared: State
    apart: State


@pytest.fixture(params=CASES, ids=NAMES, scope="module")
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    name, variant = request.param
    if name not in PARTS:
        pytest.skip("tests/families/parts.py has no processor for its tiny models")
    family, folder = load("allocator.families", name), tmp_path_factory.mktemp(name)
    made(family, folder, variant.removesuffix(WIDE).strip() or None)
    if variant.endswith(WIDE):
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["sliding_window"] = 256
        (folder / "config.json").write_text(json.dumps(config))
    PARTS[name](folder, variant)
    if family.gives(folder) == "ranking":
        pytest.skip("it ranks")
    pictures = [each.image for each in two_samples(folder)]
    samples = [
        Sample(str(n), pictures[row], "vqa", text, ("red",))
        for n, (row, text) in enumerate(ASKED)
    ]
    model: Any = family.load(folder, "cpu")
    with pytest.MonkeyPatch.context() as patch:
        # a package that only counts frames of videos; it is looked for once
        patch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", str)
        shared = model.inputs(samples)
    apart = model.processed(samples, model.texts(samples))
    said = {k: v for k, v in shared.items() if k.startswith("decoder_")}
    return Case(f"{name}-{variant}", model, samples, shared, {**apart, **said})


def test_pixels_of_a_picture_are_there_once(case: Case) -> None:
    assert case.shared[PICTURE].tolist() == [row for row, _ in ASKED]
    assert PICTURE not in case.apart
    # the first two samples show the two pictures
    pixels = case.shared["pixel_values"]
    assert 2 * pixels.numel() <= case.apart["pixel_values"].numel()
    # those of a kind stand in one row
    row = case.apart["pixel_values"][: len(pixels), ..., : pixels.shape[-1]]
    assert torch.equal(pixels, row)
    for key in ("input_ids", "attention_mask"):
        assert torch.equal(case.shared[key], case.apart[key])


def test_nothing_is_shared_where_replies_are_read(case: Case) -> None:
    state = case.model.inputs(case.samples, answered=True)
    assert PICTURE not in state
    assert torch.equal(state["pixel_values"], case.apart["pixel_values"])


def test_stages_give_the_same_whether_pictures_are_shared_or_not(case: Case) -> None:
    found, wanted = (logits_of(case.model, s) for s in (case.shared, case.apart))
    torch.testing.assert_close(found[:, -1], wanted[:, -1])


def test_questions_branch_wherever_their_picture_does_not_hear_of_them(
    case: Case,
) -> None:
    generating = getattr(case.model.module, "language_model", case.model.module)
    state = prefixed(case.model, case.shared)
    found = case.model.branches(generating, state, Decoding(TOKENS))
    assert (found is None) == (case.name in REFUSED)


@pytest.fixture(params=[1, 3], ids=["greedy", "beams"])
def decoding(request: pytest.FixtureRequest) -> Decoding:
    return Decoding(TOKENS, request.param)


def replied(case: Case, state: State, decoding: Decoding) -> tuple[Tensor, list[Any]]:
    """Replies, and the logits of each pass behind the last token of all prompts."""
    seen: list[Tensor] = []
    head = case.model.module.get_output_embeddings()
    hook = head.register_forward_hook(lambda _, __, found: seen.append(found[:, -1]))
    with torch.inference_mode():
        ids = case.model.reply_ids(prefixed(case.model, state), decoding)
    hook.remove()
    return ids, [each for each in seen if len(each) == len(ASKED) * decoding.beams]


def test_branches_reply_token_for_token_as_whole_prompts(
    case: Case, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, seen = replied(case, case.shared, decoding)
    monkeypatch.setattr(type(case.model), "branches", lambda *_: None)
    for state in (case.shared, case.apart):
        wanted, logits = replied(case, state, decoding)
        assert torch.equal(found, wanted)
        torch.testing.assert_close(seen[0], logits[0])
        torch.testing.assert_close(seen[-1], logits[-1])


def test_replies_about_shared_pictures_are_those_of_transformers_to_each_alone(
    case: Case, decoding: Decoding
) -> None:
    found, _ = replied(case, case.shared, decoding)
    ends = list(case.model.ends.ids)
    for sample, row in zip(case.samples, found.tolist(), strict=True):
        state = case.model.inputs([sample])
        with torch.inference_mode():
            wanted = case.model.module.generate(
                **{k: v for k, v in state.items() if not k.startswith("decoder_")},
                max_new_tokens=TOKENS,
                num_beams=decoding.beams,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=0,
            )
        end = next((n for n, token in enumerate(row) if token in ends), TOKENS)
        # it stops where the reply ends, and stands behind the prompt
        said = row[: end + 1]
        assert wanted[0, -len(said) :].tolist() == said
