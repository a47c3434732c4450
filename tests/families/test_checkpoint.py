"""What every family reads of a checkpoint's folder."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import AllocateError, DataError
from allocator.embedded import HERE
from allocator.families import check_weights, family_of
from tests.families.processors import two_samples

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("tiny-llava", "model_type", ["llava"]),
        ("tiny-llava", "model_type", None),
        ("tiny-llava", "text_config.num_hidden_layers", 10**12),
        ("tiny-llava", "text_config.num_hidden_layers", 0),
        ("tiny-llava", "text_config.intermediate_size", 0),
        ("tiny-llava", "text_config.hidden_size", -1),
        ("tiny-blip2", "text_config", 5),
        ("tiny-blip2/retrieval", "qformer_config", []),
    ],
)
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_wrong_configuration_is_refused_in_one_short_sentence(
    name: str, key: str, value: Any, tmp_path: Path
) -> None:
    config = json.loads((HERE / name / "config.json").read_text())
    part, _, last = key.rpartition(".")
    (config[part] if part else config)[last] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(AllocateError) as caught:
        family_of(tmp_path).spec(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_architectures_that_are_no_list_leave_the_usual_one(tmp_path: Path) -> None:
    config = json.loads((HERE / "tiny-blip2" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": 5}))
    wanted = family_of(HERE / "tiny-blip2").spec(HERE / "tiny-blip2")
    assert family_of(tmp_path).spec(tmp_path) == wanted


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    shutil.copytree(HERE / "tiny-llava", tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    config["text_config"]["intermediate_size"] *= 2
    file.write_text(json.dumps(config))
    with pytest.raises(
        AllocateError, match=r"9 weights of another shape .*mlp\.down_proj"
    ):
        family_of(file.parent).load(file.parent, "cpu")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_weights_that_may_not_be_read_are_not_called_damaged(tmp_path: Path) -> None:
    shutil.copytree(HERE / "tiny-llava", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").chmod(0)
    with pytest.raises(AllocateError, match="may not be read"):
        check_weights(tmp_path / "model")


@pytest.mark.parametrize("name", ["tiny-llava", "tiny-blip2"])
def test_a_question_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    model = family_of(HERE / name).load(HERE / name, "cpu")
    first, second = two_samples(tmp_path)
    long = replace(second, text="what " * 5_000)
    with pytest.raises(DataError, match=r"sample 1 makes \d+ tokens, .* reads \d+$"):
        model.inputs([first, long])
    image = str(model.processor.image_token)
    odd = replace(second, text=f"what is {image}")
    with pytest.raises(DataError, match=r"sample 1 asks .* stands for a picture"):
        model.inputs([first, odd])
