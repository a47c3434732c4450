from __future__ import annotations

import shutil
import sys
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import pytest
import transformers
from safetensors.numpy import load_file
from transformers import utils

from allocator.core.errors import ModelError
from allocator.embedded import HERE
from allocator.families import checkpoint_files, family_of
from allocator.families._files import READ
from tests.families.checkpoints import change

if TYPE_CHECKING:
    from pathlib import Path

EMBEDDED = ("tiny-blip2", "tiny-blip2/retrieval", "tiny-llava")
# what lies in people's folders beside a checkpoint
STRAY = (
    *("README.md", "LICENSE", "plan.json", "training_args.bin", "training_args.json"),
    *("trainer_state.json", "all_results.json", "optimizer.pt", "scheduler.pt"),
    *("notes.txt", "requirements.txt", "pytorch_model.bin", "consolidated.safetensors"),
    *("model.safetensors.bak", "config.json.bak", "config.old.json", "modelcard.json"),
    *("finalized/manifest.json", "onnx/config.json", "runs/events.model"),
    *("retrieval/config.json", ".gitattributes", "template.jinja", "model.fp16.json"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return shutil.copytree(HERE / "tiny-llava", tmp_path / "model")


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in checkpoint_files(folder)}


def put(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")


# an audit hook stays: it listens only while there is a list
heard: list[list[str]] = []
sys.addaudithook(
    lambda event, args: (
        heard[-1].append(str(args[0])) if event == "open" and heard else None
    )
)


def opened(folder: Path) -> set[str]:
    """Files of a folder that Python opens to load its model and processor."""
    heard.append([])
    try:
        model: Any = family_of(folder).load(folder, "cpu")
        assert model.processor
    finally:
        told = heard.pop()
    return {name.removeprefix(f"{folder}/") for name in told if str(folder) in name}


# transformers does not close the templates that it reads
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", EMBEDDED)
def test_whatever_is_opened_to_load_a_checkpoint_belongs_to_it(
    name: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(HERE / name, tmp_path / "model")
    assert names(folder) == {f.name for f in folder.iterdir() if f.is_file()}
    for each in STRAY:
        put(folder, each)
    template = "additional_chat_templates/tool.jinja"
    put(folder, template)
    found = opened(folder)
    # weights are opened by a library that Python does not hear
    assert "config.json" in found
    assert found <= names(folder)
    assert not names(folder) & set(STRAY)
    assert template in names(folder)


def test_every_name_that_transformers_has_for_such_a_file_is_known() -> None:
    kinds = ("Qwen2Tokenizer", "GemmaTokenizer", "T5Tokenizer", "BertTokenizer")
    kinds += ("GPT2Tokenizer", "LlamaTokenizer", "XLMRobertaTokenizer")
    wanted = {utils.CONFIG_NAME, utils.GENERATION_CONFIG_NAME, utils.PROCESSOR_NAME}
    wanted |= {utils.IMAGE_PROCESSOR_NAME, utils.FEATURE_EXTRACTOR_NAME}
    wanted |= {utils.CHAT_TEMPLATE_FILE, utils.LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE}
    wanted |= {f"{utils.CHAT_TEMPLATE_DIR}/tool.jinja", "tokenizer.4.0.0.json"}
    wanted |= {"special_tokens_map.json", "added_tokens.json", "tokenizer_config.json"}
    for kind in kinds:
        wanted |= set(getattr(transformers, kind).vocab_files_names.values())
    unknown = [n for n in wanted if not any(fnmatch(n, each) for each in READ)]
    assert not unknown


def test_the_weights_that_an_index_lists_belong_to_it_and_no_others(
    folder: Path,
) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text("{}")
    change(index, weight_map=dict.fromkeys(tensors, "model-00001-of-00001.safetensors"))
    listed = names(folder)
    assert "model-00001-of-00001.safetensors" in listed
    assert index.name not in listed
    # somebody else's
    shutil.copy(HERE / "tiny-llava" / "model.safetensors", folder / "old.safetensors")
    assert names(folder) == listed


@pytest.mark.parametrize(
    "name",
    [
        *("config.json", "prompts.json", "generation_config.json"),
        *("tokenizer_config.json", "chat_template.jinja", "vocab.json"),
        *("spiece.model", "model.safetensors.index.json"),
    ],
)
def test_a_link_that_leads_nowhere_is_not_passed_over(name: str, folder: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../blobs/gone")
    with pytest.raises(ModelError, match=rf"{name} is a link that leads to no file"):
        family_of(folder)


def test_a_link_that_leads_to_a_file_is_that_file(folder: Path) -> None:
    for file in list(folder.iterdir()):
        blob = file.rename(folder.parent / f"blob of {file.name}")
        file.symlink_to(blob)
    assert family_of(folder).name == "llava"


def test_a_folder_in_the_place_of_a_file_is_not_passed_over(folder: Path) -> None:
    (folder / "runs.model").mkdir()
    assert family_of(folder).name == "llava"
    (folder / "chat_template.jinja").mkdir()
    with pytest.raises(ModelError, match=r"chat_template\.jinja is no file"):
        family_of(folder)
