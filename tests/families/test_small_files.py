"""The small files of a model folder: broken ones are named, none is passed over."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import AllocateError, ModelError
from allocator.embedded import HERE, model_folder
from allocator.families import family_of, unread_files
from allocator.families._files import READ, check_small_files
from allocator.families._processor import read_processor
from tests.families.checkpoints import change

if TYPE_CHECKING:
    from pathlib import Path

BROKEN = {
    "empty": b"",
    "cut short": b'{"a": ',
    "no text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a page of the web": b"<html>404</html>",
}
SETTINGS = [name for name in READ if name.endswith(".json") and "*" not in name]
CHECKED = [name for name in SETTINGS if not name.startswith("video_")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(HERE / "tiny-llava", tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", CHECKED)
def test_a_file_that_is_no_json_is_named(
    name: str, content: bytes, folder: Path
) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"/{name} cannot be read as JSON: ."):
        check_small_files(folder)


@pytest.mark.parametrize("content", ["null", "[]", '"a"', "3"])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "processor_config.json"])
def test_a_file_without_settings_is_named(
    name: str, content: str, folder: Path
) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=rf"/{name} holds no settings"):
        read_processor(folder)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", "{}", "has no 'model'"),
        ("chat_template.json", '{"template": ""}', "has no 'chat_template'"),
        ("added_tokens.json", '{"a": NaN}', "has tokens whose number is none"),
    ],
)
def test_a_file_of_something_else_is_named(
    name: str, content: str, said: str, folder: Path
) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ModelError, match=f"/{name} {said}"):
        read_processor(folder)


@pytest.mark.parametrize("name", ["prompts.json", "generation_config.json"])
def test_a_link_that_leads_nowhere_is_not_taken_for_no_file(
    name: str, folder: Path
) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(folder / "gone")
    with pytest.raises(ModelError, match=rf"/{name} is a link that leads to no file"):
        family_of(folder).load(folder, "cpu")


def test_a_folder_in_the_place_of_a_file_is_named(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").mkdir()
    with pytest.raises(ModelError, match=r"/tokenizer_config\.json is no file"):
        read_processor(folder)


def test_what_is_for_videos_is_not_looked_at(folder: Path) -> None:
    (folder / "video_preprocessor_config.json").write_text("")
    check_small_files(folder)


def test_a_byte_order_mark_before_prompts_counts_for_nothing(folder: Path) -> None:
    file = folder / "prompts.json"
    before = family_of(folder).outline(folder)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert family_of(folder).outline(folder).wording.own == before.wording.own


def test_weights_that_nobody_reads_are_named(folder: Path) -> None:
    assert unread_files(folder) == ()
    for name in ("pytorch_model.bin", "lora.safetensors", "optimizer.pt", "notes.txt"):
        (folder / name).touch()
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "adapter_config.json").touch()
    assert unread_files(folder) == (
        "lora.safetensors",
        "pytorch_model.bin",
        "checkpoint-5/adapter_config.json",
    )


def test_a_block_that_the_tower_does_not_have_is_named(folder: Path) -> None:
    change(folder / "config.json", vision_feature_layer=4)
    with pytest.raises(ModelError, match=r"vision_feature_layer 4, .* 3 blocks"):
        family_of(folder).spec(folder)


def test_a_processor_with_another_image_token_is_refused(folder: Path) -> None:
    from evals.tasks.vqav2 import PLUGIN

    change(folder / "config.json", image_token_index=5)
    model = family_of(folder).load(folder, "cpu")
    with pytest.raises(
        ModelError, match=r"as '<image>', token 4, and .* that 5 is the image token"
    ):
        model.inputs([PLUGIN.examples[0]])


def test_shards_without_an_index_are_refused(folder: Path) -> None:
    single = folder / "model.safetensors"
    shutil.copy(single, folder / "model-00001-of-00002.safetensors")
    with pytest.raises(ModelError, match=r"beside model\.safetensors, and no .*index"):
        family_of(folder).spec(folder)
    single.unlink()
    with pytest.raises(ModelError, match=r"and no .*index\.json that lists it"):
        family_of(folder).spec(folder)


def test_an_index_of_brackets_alone_is_named(folder: Path) -> None:
    file = folder / "model.safetensors.index.json"
    file.write_text("[" * 100_000)
    with pytest.raises(ModelError, match=r"index\.json cannot be read as JSON"):
        family_of(folder).spec(folder)
    file.write_text(json.dumps({"weight_map": None}))
    with pytest.raises(ModelError, match="lists no weights"):
        family_of(folder).spec(folder)


def test_a_byte_order_mark_that_transformers_would_trip_over_is_named(
    folder: Path,
) -> None:
    file = folder / "tokenizer.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    with pytest.raises(ModelError, match=r"/tokenizer\.json begins with a byte order"):
        read_processor(folder)


@pytest.mark.parametrize("name", ["tiny-blip2", "tiny-blip2/retrieval"])
def test_a_tokenizer_of_a_class_that_reads_otherwise_is_refused(
    name: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(HERE / name, tmp_path / "model")
    read_processor(folder)
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"names no tokenizer_class, .* GPT2Tokenizer"):
        read_processor(folder)


def test_a_tokenizer_without_a_class_that_reads_alike_is_taken(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text("{}")
    assert read_processor(folder).tokenizer("the circle").input_ids


@pytest.mark.parametrize(
    ("name", "said"), [("", "no embedded model ''"), ("x/model", "x/model is a file")]
)
def test_a_name_that_is_no_folder_is_refused(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "model").touch()
    with pytest.raises(AllocateError, match=said):
        model_folder(name)
