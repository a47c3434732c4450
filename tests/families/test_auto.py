"""Models that nobody has declared: placed by their structure, asked, refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, VipLlavaForConditionalGeneration

from allocator.core.errors import ModelError, SpecError
from allocator.core.plugins import load
from allocator.core.ports import Decoding
from allocator.families import (
    _blocks,
    _pipeline,
    _places,
    _structure,
    _whole,
    auto,
    declaration_of,
    family_of,
)
from allocator.families._found import found_of
from allocator.families._shrunk import shrunk
from tests.families.checkpoints import change
from tests.families.processors import (
    check_answers,
    check_beams,
    save_processor,
    start_with_bos,
    two_samples,
    word_tokenizer,
)
from tests.families.test_llava import INSTRUCT
from tests.states import made, prefixed

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.core.ports import Family

AUTO: Family = load("allocator.families", "auto")
# another library's
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def save_parts(folder: Path) -> None:
    """LLaVA's processor, for a ViP-LLaVA: pictures of 56 x 56 in patches of 14."""
    from transformers import CLIPImageProcessorPil

    side = {"height": 56, "width": 56}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size=side)
    words = start_with_bos(
        word_tokenizer("<image>", ["[INST]", "[/INST]"], bos_token="<s>")
    )
    settings = {
        "processor_class": "LlavaProcessor",
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    save_processor(folder, words, pictures, settings, INSTRUCT)
    change(folder / "config.json", image_token_index=4, image_token_id=4)


def test_a_model_with_its_processor_answers_as_transformers_does(
    tmp_path: Path,
) -> None:
    made(AUTO, tmp_path / "model", "vipllava")
    save_parts(tmp_path / "model")
    family = family_of(tmp_path / "model")
    assert family is AUTO
    model = family.load(tmp_path / "model", "cpu")
    samples = two_samples(tmp_path)
    check_answers(model, samples)
    check_beams(model, model.inputs(samples))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViP-LLaVA on disk, to read."""
    made(AUTO, found := tmp_path_factory.mktemp("auto"), "vipllava")
    return found


def grow(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Let every module of full size have a linear that nothing calls."""
    build = auto.build

    def grown(*args: Any) -> Any:
        module = build(*args)
        module.model.add_module("adapter", nn.Linear(width, width))
        return module

    monkeypatch.setattr(auto, "build", grown)


def test_a_small_linear_without_a_place_is_left_out_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(monkeypatch, 8)
    left = {each.name: each.reason for each in AUTO.spec(folder).left_out}
    assert left["model.adapter"].startswith("its place is unknown")


def test_a_large_linear_without_a_place_is_an_error_that_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(monkeypatch, 1024)
    with pytest.raises(SpecError, match=r"at most 2% may: model\.adapter$"):
        AUTO.spec(folder)


def test_the_declaration_makes_the_structure_again(folder: Path) -> None:
    words = {**vars(_blocks), **vars(_places), **vars(_structure)}
    said = declaration_of(folder)
    assert said is not None
    assert max(map(len, said.splitlines())) <= 88
    assert isinstance(AUTO, auto.Auto)
    assert eval(said, words) == AUTO.structure(folder)


@pytest.mark.parametrize(("layer", "read"), [(-3, 5), (-6, 2), (3, 2)])
def test_the_block_that_a_configuration_names_is_read(layer: int, read: int) -> None:
    config = shrunk(AutoConfig.for_model("vipllava"))
    config.vision_feature_layers = layer
    config.vision_config.num_hidden_layers = 8
    with torch.device("meta"):
        module = VipLlavaForConditionalGeneration(config)
    found = found_of(VipLlavaForConditionalGeneration, config).fitted(module)
    assert read in found.structure.reads[0]


def test_an_architecture_that_a_family_names_is_that_familys(tmp_path: Path) -> None:
    llava = load("allocator.families", "llava")
    made(llava, tmp_path)
    assert "llava" in AUTO.model_types
    assert family_of(tmp_path) is llava
    assert declaration_of(tmp_path) is None


def test_what_is_no_image_text_to_text_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    said = (
        r"is a 'bert' model; supported are .*llava.*, and by its structure any image-"
    )
    with pytest.raises(ModelError, match=said):
        family_of(tmp_path)


def test_replies_come_of_what_the_prefix_has_kept(folder: Path) -> None:
    """With other features they are others: nothing looks at the picture again."""
    torch.manual_seed(0)
    state = made(AUTO, folder, "vipllava")
    model: Any = AUTO.load(folder, "cpu")
    seen = prefixed(model, state)
    other = prefixed(model, {**state, "pixel_values": -state["pixel_values"]})
    swapped = {**seen, "features": other["features"]}
    with torch.inference_mode():
        found = model.reply_ids(swapped, Decoding(6))
        wanted = model.reply_ids(other, Decoding(6))
        before = model.reply_ids(seen, Decoding(6))
    assert torch.equal(found, wanted)
    assert not torch.equal(found, before)


def test_a_processor_without_an_image_token_gets_the_configurations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(AUTO, tmp_path / "model", "vipllava")
    save_parts(tmp_path / "model")
    model: Any = AUTO.outline(tmp_path / "model")
    processor = model.processor
    processor.image_token = None
    assert model.processor.image_token == "<image>"
    monkeypatch.setattr(_whole, "IMAGE", ("no_such_setting",))
    processor.image_token = None
    with pytest.raises(ModelError, match="names a token that stands for a picture"):
        _ = model.processor
    # one that cannot tell how many tokens a picture takes: of the words alone
    monkeypatch.setattr(_pipeline, "lengths_of", lambda *_: 1 // 0)
    processor.image_token = "<image>"
    assert model.lengths(two_samples(tmp_path)) == [3, 7]
