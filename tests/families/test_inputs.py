"""Making inputs: what older folders lack, what cannot be shown, and who is to blame."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from PIL import Image

from allocator.core.errors import AllocateError, DataError, ModelError, in_one_sentence
from allocator.core.ports import Decoding
from allocator.embedded import HERE
from allocator.families import family_of
from allocator.families._processor import spelled
from tests.families import test_qwen_vl
from tests.families.checkpoints import change
from tests.families.processors import two_samples
from tests.states import logits_of, made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Model, Sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(HERE / "tiny-llava", folder)
    return folder


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    return two_samples(tmp_path)


def loaded(folder: Path) -> Model:
    return family_of(folder).load(folder, "cpu")


def without(file: Path, *names: str) -> None:
    kept = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in kept.items() if k not in names}))


COUNTED = (
    "patch_size",
    "num_additional_image_tokens",
    "vision_feature_select_strategy",
)


@pytest.mark.parametrize("names", [COUNTED[:1], COUNTED[1:2], COUNTED[2:], COUNTED])
def test_how_a_picture_is_counted_is_taken_from_the_configuration(
    names: tuple[str, ...], folder: Path, samples: list[Sample]
) -> None:
    wanted = loaded(folder).inputs(samples)
    without(folder / "processor_config.json", *names)
    found = loaded(folder).inputs(samples)
    assert torch.equal(found["input_ids"], wanted["input_ids"])


def test_how_many_queries_show_a_picture_is_taken_from_the_configuration(
    tmp_path: Path, samples: list[Sample]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(HERE / "tiny-blip2", folder)
    wanted = loaded(folder).inputs(samples)
    without(folder / "processor_config.json", "num_query_tokens")
    found = loaded(folder).inputs(samples)
    assert torch.equal(found["input_ids"], wanted["input_ids"])
    change(folder / "processor_config.json", num_query_tokens=5)
    model = loaded(folder)
    with pytest.raises(ModelError, match=r"model fails in stage .* hold 10 image"):
        logits_of(model, model.inputs(samples))


def test_a_processor_that_counts_otherwise_is_one_sentence(
    folder: Path, samples: list[Sample]
) -> None:
    change(folder / "processor_config.json", patch_size=8)
    model = loaded(folder)
    state = prefixed(model, model.inputs(samples))
    with pytest.raises(ModelError, match="cannot reply to sample 0 ff") as caught:
        model.predict([state], samples, Decoding(2), lambda _: None)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_token_beyond_the_embedding_is_named(
    folder: Path, samples: list[Sample]
) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["this"] = 140
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(
        ModelError, match=r"token 140 \('this'\) of sample 1, and .* has 128 rows"
    ):
        loaded(folder).inputs(samples)


def test_padding_beyond_the_embedding_is_put_within(
    folder: Path, samples: list[Sample]
) -> None:
    before = loaded(folder).inputs(samples)
    change(folder / "tokenizer_config.json", pad_token="<|of another model|>")
    model = loaded(folder)
    after = model.inputs(samples)
    assert model.processor.tokenizer.pad_token_id >= 128
    assert int(after["input_ids"].max()) < 128
    assert torch.equal(after["attention_mask"], before["attention_mask"])


def test_a_picture_that_a_processor_does_not_take_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    made(test_qwen_vl.QWEN, folder, "2")
    test_qwen_vl.save_parts(folder)
    good, bad = two_samples(tmp_path)
    # over 200 times as wide as high, which Qwen's refuses
    Image.new("RGB", (804, 4)).save(bad.image)
    model, published = (
        test_qwen_vl.QWEN.load(folder, "cpu"),
        replace(bad, upright=False),
    )
    assert len(model.lengths([good, published])) == 2
    with pytest.raises(DataError, match=r"does not take sample 1 \(1\.png\): .*200"):
        model.inputs([good, published])
    # among pictures of one's own there is none
    with pytest.raises(DataError, match=r"1\.png .*804 x 4 pixels"):
        model.inputs([good, bad])


def test_an_answer_that_no_tokenizer_takes_is_refused_by_its_sample(
    folder: Path, samples: list[Sample]
) -> None:
    broken = replace(samples[1], references=("a \udc00",))
    model = loaded(folder)
    model.inputs([samples[0], broken])
    with pytest.raises(DataError, match="sample 1 holds half a character"):
        model.inputs([samples[0], broken], answered=True)


def test_a_first_token_in_the_question_does_not_take_it_from_the_others(
    tmp_path: Path,
) -> None:
    folder = HERE / "tiny-blip2"
    model = family_of(folder).load(folder, "cpu")
    first, second = (replace(s, prompt="plain") for s in two_samples(tmp_path))
    wanted = model.inputs([first, second])["input_ids"][1]
    begun = replace(first, text="<s> what")
    assert torch.equal(model.inputs([begun, second])["input_ids"][1], wanted)


def test_a_stage_that_fails_says_which_it_is(
    folder: Path, samples: list[Sample]
) -> None:
    model = loaded(folder)
    state = {**model.inputs(samples), "pixel_values": torch.zeros(2, 1)}
    with pytest.raises(ModelError, match=r"fails in stage vision\.embed: ") as caught:
        prefixed(model, state)
    assert caught.value.__cause__ is not None
    assert "\n" not in str(caught.value)


def test_only_errors_of_others_are_put_into_a_sentence() -> None:
    def failing(error: BaseException) -> None:
        with in_one_sentence("it fails"):
            raise error

    ours = DataError("ours")
    with pytest.raises(DataError) as caught:
        failing(ours)
    assert caught.value is ours
    with pytest.raises(KeyboardInterrupt):
        failing(KeyboardInterrupt())
    told: dict[str, BaseException] = {
        "it fails: first": ValueError("first\nsecond"),
        "it fails: KeyError: 'a'": KeyError("a"),
        "it fails: RuntimeError": RuntimeError(),
        "it fails: one of: a b": ValueError("one of:\n a\n b"),
        "it fails: there is not enough memory": MemoryError(),
    }
    for said, error in told.items():
        with pytest.raises(ModelError) as shown:
            failing(error)
        assert str(shown.value) == said
        assert shown.value.__cause__ is error
        assert isinstance(shown.value, AllocateError)


def test_tokens_alike_in_a_row_are_counted(folder: Path) -> None:
    tokenizer: Any = loaded(folder).processor.tokenizer
    image = tokenizer.convert_tokens_to_ids("<image>")
    red = tokenizer.convert_tokens_to_ids("red")
    told = spelled([1, *[image] * 16, red, red], tokenizer)
    assert told == "<s>[<image> x 16]red red"


@pytest.mark.parametrize("brought", ["prompts.json", "chat_template.jinja"])
def test_a_prompt_that_ends_a_reply_itself_is_refused(
    brought: str, folder: Path, samples: list[Sample]
) -> None:
    (folder / "prompts.json").unlink()
    own = {"vqa": "USER: <image>\n{} ASSISTANT:</s>"}
    template = (
        "{% for m in messages %}<image>{% for p in m.content if p.type == 'text' %}"
        "{{ p.text }}{% endfor %}{{ eos_token }}\n{% endfor %}"
    )
    jinja = brought.endswith("jinja")
    (folder / brought).write_text(template if jinja else json.dumps(own))
    with pytest.raises(ModelError, match="ends its prompts with </s>"):
        loaded(folder).inputs(samples)


@pytest.mark.parametrize("name", ["pad_token", "eos_token", "unk_token"])
def test_a_word_that_is_made_a_special_token_is_refused(
    name: str, folder: Path, samples: list[Sample]
) -> None:
    change(folder / "tokenizer_config.json", **{name: "red"})
    with pytest.raises(ModelError, match=f"makes 'red' its {name}"):
        loaded(folder).inputs(samples)
