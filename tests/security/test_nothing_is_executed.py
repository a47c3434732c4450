"""What is read is data: no code of a file runs, and no source of ours would let it."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import AllocateError, ModelError
from allocator.core.plan import Plan
from allocator.core.study import StudySpec
from allocator.embedded import model_folder
from allocator.families import check_weights, family_of
from allocator.space.csv_file import read_csv
from evals.rows.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGES = ("allocator", "quant", "evals", "surrogate")
SOURCES = [file for name in PACKAGES for file in sorted((ROOT / name).rglob("*.py"))]
EXECUTING = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
# what takes a file of another format, and by which argument it runs nothing
GUARDED = {"from_pretrained": "trust_remote_code", "np.load": "allow_pickle"}


def nodes(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, kind):
                yield f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", node


def test_transformers_is_told_every_time_to_run_nothing_of_a_folder() -> None:
    seen = 0
    for where, call in nodes(ast.Call):
        name = ast.unparse(call.func)
        for guarded, argument in GUARDED.items():
            if name == guarded or name.endswith(f".{guarded}"):
                given = {k.arg: k.value for k in call.keywords}
                assert argument in given, where
                assert ast.literal_eval(given[argument]) is False, where
                seen += 1
    assert seen > 5


def test_nothing_that_unpickles_is_imported_or_called() -> None:
    for where, node in nodes(ast.Import):
        names = {each.name.split(".")[0] for each in node.names}
        assert not names & EXECUTING, where
    for where, node in nodes(ast.ImportFrom):
        assert (node.module or "").split(".")[0] not in EXECUTING, where
    banned = {"eval", "exec", "compile", "__import__", "torch.load", "os.system"}
    for where, call in nodes(ast.Call):
        name = ast.unparse(call.func)
        assert name not in banned, where
        assert not name.endswith(("read_pickle", "unsafe_load", "full_load")), where
        assert all(k.arg != "shell" for k in call.keywords), where


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "it ran"


@pytest.fixture
def bomb(mark: Path) -> bytes:
    content = pickle.dumps(Bomb(mark))
    pickle.loads(content)
    assert mark.exists()
    mark.unlink()
    return content


def test_pickled_weights_are_refused_with_the_way_to_convert_them(
    tmp_path: Path, bomb: bytes, mark: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("tiny-llava"), folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(bomb)
    with pytest.raises(ModelError) as refused:
        check_weights(folder)
    said = str(refused.value)
    assert "pytorch_model.bin is pickled, which may run code when it is read" in said
    assert f"from_pretrained({str(folder)!r}, use_safetensors=False)" in said
    assert "model.save_pretrained(" in said
    assert "\n" not in said
    assert not mark.exists()


@pytest.mark.parametrize("name", ["a.json", "a.csv", "a.jsonl", "a.tsv", "a.parquet"])
def test_a_pickle_under_the_name_of_a_data_file_is_no_data(
    name: str, tmp_path: Path, bomb: bytes, mark: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(bomb)
    readers: list[Any] = [Plan.read, lambda f: StudySpec.from_toml(f, {}), read_table]
    for read in [*readers, lambda f: read_csv(f, ("score",))]:
        with pytest.raises(AllocateError):
            read(file)
    assert not mark.exists()


def test_code_that_lies_in_a_model_folder_is_left_alone(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder("tiny-llava"), folder)
    text = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    for name in ("configuration_evil", "modeling_evil", "processing_evil"):
        (folder / f"{name}.py").write_text(f"{text}class Evil:\n    pass\n")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        said = json.loads((folder / name).read_text())
        said["auto_map"] = {
            "AutoConfig": "configuration_evil.Evil",
            "AutoModelForImageTextToText": "modeling_evil.Evil",
            "AutoProcessor": "processing_evil.Evil",
            "AutoTokenizer": ["processing_evil.Evil", None],
        }
        (folder / name).write_text(json.dumps(said))
    # nobody is asked whether it may run, either
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    with suppress(AllocateError):
        family_of(folder).load(folder, "cpu")
    assert not mark.exists()


def test_a_model_of_a_kind_that_only_its_own_code_knows_is_refused(
    tmp_path: Path, mark: Path
) -> None:
    (tmp_path / "modeling_evil.py").write_text(f"open({str(mark)!r}, 'w')")
    said = {"model_type": "evil", "auto_map": {"AutoModel": "modeling_evil.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match="is a 'evil' model"):
        family_of(tmp_path)
    assert not mark.exists()
