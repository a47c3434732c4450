"""Every family asks and stops as its tokenizer wants, whatever other files say."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from allocator.core.plugins import load
from allocator.core.ports import Decoding
from allocator.families._wording import template_of
from tests.families.checkpoints import change
from tests.families.parts import PARTS
from tests.families.processors import two_samples
from tests.states import TITLES, VARIANTS, made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family, Model, Sample, State

# another library's
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
# a token that no tiny model's tokenizer ends with
OTHER = 7


@dataclass(frozen=True)
class Case:
    """A tiny model on disk with a processor, and two questions with pictures."""

    family: Family
    folder: Path
    samples: list[Sample]

    def load(self) -> Model:
        return self.family.load(self.folder, "cpu")

    def inputs(self) -> State:
        return self.load().inputs(self.samples)


@pytest.fixture(params=VARIANTS, ids=TITLES)
def case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Case:
    # a package that only counts frames of videos
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", str)
    name, variant = request.param
    if name not in PARTS:
        pytest.skip("tests/families/parts.py has no processor for its tiny models")
    family, folder = load("allocator.families", name), tmp_path / "model"
    made(family, folder, variant)
    PARTS[name](folder, variant)
    if family.gives(folder) == "ranking":
        pytest.skip("it ranks")
    return Case(family, folder, two_samples(tmp_path))


def name_other_end(folder: Path) -> None:
    """Let every file but the tokenizer's name an end that is not the tokenizer's."""
    change(folder / "generation_config.json", eos_token_id=OTHER)
    config = json.loads((folder / "config.json").read_text())
    config["eos_token_id"] = config["text_config"]["eos_token_id"] = OTHER
    (folder / "config.json").write_text(json.dumps(config))


def test_the_tokenizers_own_end_ends_a_reply(case: Case) -> None:
    name_other_end(case.folder)
    model = case.load()
    tokenizer = model.processor.tokenizer
    state = prefixed(model, model.inputs(case.samples))
    for end in (tokenizer.eos_token_id, OTHER):

        def say(_: Any, __: Any, logits: Any, end: int = end) -> Any:
            logits = logits.clone()
            logits[..., end] += 1e4
            return logits

        hook = model.module.get_output_embeddings().register_forward_hook(say)
        with torch.inference_mode():
            ids = model.reply_ids(state, Decoding(5))
            said = model.predict([state], case.samples, Decoding(5), lambda _: None)
        hook.remove()
        assert ids.tolist() == [[end], [end]]
        assert said == ["", ""]


def test_a_missing_pad_token_changes_nothing_that_is_seen(case: Case) -> None:
    before = case.inputs()
    file = case.folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["pad_token"]
    file.write_text(json.dumps(settings))
    after = case.inputs()
    assert not before["attention_mask"].all()
    assert torch.equal(after["attention_mask"], before["attention_mask"])
    seen = before["attention_mask"].bool()
    assert torch.equal(after["input_ids"][seen], before["input_ids"][seen])


def test_an_end_behind_every_text_is_no_part_of_a_prompt(case: Case) -> None:
    before = case.inputs()
    end = json.loads((case.folder / "tokenizer_config.json").read_text())["eos_token"]
    file = case.folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    numbers = {x["content"]: x["id"] for x in tokenizer["added_tokens"]}
    number = numbers.get(end, tokenizer["model"]["vocab"].get(end))
    made = tokenizer["post_processor"] or {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": x, "type_id": 0}} for x in "AB"],
        "special_tokens": {},
    }
    if made["single"][-1] == {"SpecialToken": {"id": end, "type_id": 0}}:
        # by design: its encoder reads where a text ends
        assert (before["input_ids"][:, -1] == number).all()
        return
    for kind in ("single", "pair"):
        made[kind].append({"SpecialToken": {"id": end, "type_id": 0}})
    made["special_tokens"][end] = {"id": end, "ids": [number], "tokens": [end]}
    file.write_text(json.dumps({**tokenizer, "post_processor": made}))
    after = case.inputs()
    assert torch.equal(after["attention_mask"], before["attention_mask"])
    assert torch.equal(after["input_ids"], before["input_ids"])


def test_a_prompt_is_shown_as_the_model_gets_it(case: Case) -> None:
    model = case.family.outline(case.folder)
    loaded = case.load()
    for kind in model.kinds:
        sample = case.samples[0]
        text = "" if kind == "caption" else "is this"
        asked = type(sample)("1", sample.image, kind, text, ("red",))
        shown = model.prompt(asked)
        assert shown == loaded.prompt(asked)
        assert " x " in shown
        assert ("is this" in shown) == (kind != "caption")


def test_words_of_ones_own_stand_in_the_models_frame(case: Case) -> None:
    """With the picture, and within whatever it puts around a question."""
    model: Any = case.family.outline(case.folder)
    sample = case.samples[0]

    def shown(kind: str, text: str) -> str:
        told: str = model.prompt(replace(sample, prompt=kind, text=text))
        return told

    given = shown("plain", "is this this")
    assert given.count("is this this") == 1
    assert " x " in given
    # of a caption as of a question
    assert shown("caption", "is this this") == given != shown("caption", "")
    # an own frame of the checkpoint stays around them
    place = "<image>" if "<image>" in model.wording.published["plain"] else ""
    own = {"plain": f"{place}this {{}} is"}
    (case.folder / "prompts.json").write_text(json.dumps(own))
    framed = case.family.outline(case.folder).prompt
    assert "this is this this is" in framed(
        replace(sample, prompt="plain", text="is this this")
    )


def test_a_template_with_a_switch_is_told_not_to_think(case: Case) -> None:
    before: Any = case.family.outline(case.folder)
    template = template_of(before.processor)
    if template is None:
        pytest.skip("its published checkpoints are asked without a template")
    switch = "{{ 'is this' if enable_thinking is defined and not enable_thinking }}"
    told = [before.prompt(sample) for sample in case.samples]
    # which would come first
    (case.folder / "chat_template.json").unlink(missing_ok=True)
    (case.folder / "chat_template.jinja").write_text(template + switch)
    after: Any = case.family.outline(case.folder)
    for sample, before_it in zip(case.samples, told, strict=True):
        shown = after.prompt(sample)
        assert shown.endswith("is this")
        assert shown.removesuffix("is this").rstrip() == before_it.rstrip()
    counts = (model.lengths(case.samples) for model in (before, after))
    # a token a word, or a letter
    more = len(
        before.processor.tokenizer("is this", add_special_tokens=False).input_ids
    )
    assert [b - a for a, b in zip(*counts, strict=True)] == [more, more]
