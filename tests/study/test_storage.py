from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allocator.core.errors import StudyError
from allocator.core.study import StudySpec, check_study_name
from allocator.study.journal import Journal
from allocator.study.storage import default_name, open_storage, study_names

if TYPE_CHECKING:
    from pathlib import Path


def test_a_storage_that_does_not_exist_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="there is no study in sqlite"):
        study_names(f"sqlite:///{tmp_path}/studies.db")
    with pytest.raises(StudyError, match="there is no study"):
        Journal.load(f"{tmp_path}/studies.log", "first")
    assert list(tmp_path.iterdir()) == []


def test_the_default_storage_has_no_studies_before_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert study_names(None) == []
    made = Journal.create(None, "first", "identity", {})
    assert study_names(None) == ["first"]
    assert made.url == f"sqlite:///{tmp_path}/allocate/studies.db"


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "nosuchdatabase://x",
        "sqlite:////proc/nowhere/studies.db",
        "/proc/nowhere/studies.log",
        "postgresql://[",
    ],
)
def test_a_storage_that_cannot_be_opened_is_refused_by_its_name(url: str) -> None:
    with pytest.raises(StudyError) as refused:
        open_storage(url)
    assert f"storage {url!r} cannot be opened" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    file.write_text("not a database at all, but long enough to be read as one" * 40)
    with pytest.raises(StudyError, match="cannot be opened"):
        open_storage(f"sqlite:///{file}")


@pytest.mark.parametrize(
    ("model", "task", "name"),
    [
        ("tiny-blip2", "vqav2", "tiny-blip2-vqav2-1a2b"),
        ("/models/My Model (v2)", "coco", "My-Model-v2-coco-1a2b"),
        ("org/name.7b", "vqav2+coco", "name-7b-vqav2-coco-1a2b"),
        ("///", "lmms:a/b", "model-lmms-a-b-1a2b"),
    ],
)
def test_a_default_name_tells_model_and_task(model: str, task: str, name: str) -> None:
    assert default_name(StudySpec("4", task, model=model), "1a2b") == name


def test_a_default_name_tells_the_target() -> None:
    asked = StudySpec.read({"budget": "6", "task": "coco", "target": "llama.cpp"})
    assert default_name(asked, "1a2b") == "tiny-blip2-coco-llama.cpp-1a2b"
    # as names of studies are
    assert check_study_name(default_name(asked, "1a2b"))
