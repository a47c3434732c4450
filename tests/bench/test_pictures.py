from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from allocator.bench import contents, pictures
from allocator.bench.contents import Contents, forget
from allocator.bench.pictures import readable
from allocator.bench.prepare import prepare
from allocator.core.errors import DataError
from allocator.core.ports import SPLITS, Sample
from allocator.core.study import StudySpec
from allocator.families import read_image
from evals.tasks.vqav2 import PLUGIN as VQAV2
from evals.taskset import TaskSet
from evals.worded import Worded
from tests.evals.own_files import lines, rows, write, write_pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Set
    from pathlib import Path

    from allocator.core.ports import Selection, Split
    from allocator.core.watch import Tell

COUNT = 200
READING = "reading pictures"


@dataclass(frozen=True)
class Own:
    """A task of a file whose row 0 calibrates, 1 guides the search, 2 evaluates, ..."""

    all: tuple[Sample, ...]
    name: str = "own"
    needs: str = "reply"
    version: int = 1
    metric: str = "score"
    examples: tuple[Sample, ...] = ()

    def rows(self) -> tuple[Sample, ...]:
        return self.all

    def place(self, sample: Sample) -> str:
        return f"column 'image' in line {sample.id} of samples.jsonl"

    def without(self, ids: Set[str]) -> Own:
        return replace(self, all=tuple(s for s in self.all if s.id not in ids))

    def samples(
        self, data: Path, split: Split, selection: Selection
    ) -> tuple[Sample, ...]:
        del data, selection
        return self.all[SPLITS.index(split) :: len(SPLITS)]


class Noted:
    """A watch that notes how many pictures were read, and may stop a run there."""

    def __init__(self, stop: int | None = None) -> None:
        self.read: list[int] = []
        self.stop = stop

    @contextmanager
    def phase(self, name: str) -> Iterator[Tell]:
        if name == READING:
            self.read.append(0)

        def tell(done: int, total: int, note: str = "", /) -> None:
            del total, note
            if name == READING:
                self.read[-1] = done
                if done == self.stop:
                    raise KeyboardInterrupt

        yield tell

    def say(self, text: str) -> None:
        raise AssertionError(text)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own, in which files count as settled at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(contents, "SETTLED", -(10**18))
    return tmp_path / "cache" / "allocate"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two hundred pictures, all of them different."""
    made = tmp_path / "shop"
    made.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(made / f"{number}.png")
    return made


@pytest.fixture
def task(folder: Path) -> Own:
    """One question about each picture."""
    return Own(
        tuple(
            Sample(str(n), folder / f"{n}.png", "vqa", "what?", ("it",))
            for n in range(COUNT)
        )
    )


def read(task: Any, *, skip: bool = False, stop: int | None = None) -> Any:
    """What is left of a task, and how many pictures were read for it."""
    watch = Noted(stop)
    return readable(task, Contents(watch), skip=skip), sum(watch.read)


def broken(folder: Path, *numbers: int) -> None:
    for number in numbers:
        file = folder / f"{number}.png"
        file.write_bytes(file.read_bytes()[:40])


def test_all_pictures_are_read_once(task: Own) -> None:
    assert read(task) == (task, COUNT)
    assert read(task) == (task, 0)


def test_a_picture_of_many_questions_or_of_many_names_is_read_once(
    task: Own, folder: Path
) -> None:
    for number in range(10, COUNT):
        shutil.copy(folder / f"{number % 10}.png", folder / f"{number}.png")
    again = replace(task, all=(*task.all, *(replace(s, id="x") for s in task.all)))
    assert read(again)[1] == 10


def test_a_picture_that_changes_is_read_again(task: Own, folder: Path) -> None:
    read(task)
    Image.new("RGB", (3, 3)).save(folder / "7.png")
    assert read(task)[1] == 1


def test_another_pillow_reads_all_of_them_again(
    task: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(task)
    monkeypatch.setattr(pictures, "version", lambda _: "9999")
    assert read(task)[1] == COUNT


def test_all_are_read_again_after_forgetting(task: Own) -> None:
    read(task)
    forget()
    assert read(task)[1] == COUNT


def test_a_run_that_is_stopped_goes_on_there(task: Own) -> None:
    with pytest.raises(KeyboardInterrupt):
        read(task, stop=150)
    assert 0 < read(task)[1] <= COUNT - 149


def test_a_broken_picture_is_named_with_its_row_and_how_many_there_are(
    task: Own, folder: Path
) -> None:
    (folder / "8.png").write_bytes(b"")
    with pytest.raises(
        DataError,
        match=r"^column 'image' in line 8 of samples.jsonl has a picture that is "
        r"broken: .*/8\.png cannot be read .*: it is empty \(--skip-broken leaves",
    ):
        read(task)
    broken(folder, 5, 150)
    with pytest.raises(DataError, match=r"line 5 .* so it is with 3 of 200 samples "):
        read(task)


def test_what_is_broken_is_looked_at_again_and_what_is_not_is_not(
    task: Own, folder: Path
) -> None:
    whole = (folder / "5.png").read_bytes()
    broken(folder, 5)
    with pytest.raises(DataError, match="line 5 "):
        read(task)
    (folder / "5.png").write_bytes(whole)
    assert read(task) == (task, 1)


def test_a_missing_picture_is_a_broken_one(task: Own, folder: Path) -> None:
    (folder / "5.png").unlink()
    with pytest.raises(DataError, match=r"line 5 .*5\.png is missing"):
        read(task)


def test_one_in_a_hundred_may_be_left_out_where_that_is_asked_for(
    task: Own, folder: Path
) -> None:
    broken(folder, 5, 150)
    left = read(task, skip=True)[0]
    assert [s.id for s in task.all if s not in left.all] == ["5", "150"]
    broken(folder, 3, 151, 199)
    with pytest.raises(
        DataError,
        match=r"at most 1 % .* the pictures of 5 of 200 samples cannot be read: column "
        r"'image' in line 3 of samples.jsonl; .* line 5 .* line 150 .*; and 2 more$",
    ):
        read(task, skip=True)


def test_questions_count_and_not_pictures(task: Own, folder: Path) -> None:
    broken(folder, 5)
    # one picture, three questions
    again = tuple(replace(task.all[5], id=f"5{letter}") for letter in "ab")
    with pytest.raises(DataError, match="the pictures of 3 of 202 samples"):
        read(replace(task, all=(*task.all, *again)), skip=True)


def _worded(task: Any) -> Any:
    return Worded(task, "Look: {question}", None)


def _joined(task: Any) -> Any:
    return TaskSet((VQAV2, task))


@pytest.mark.parametrize("wrapped", [_worded, _joined, lambda t: _joined(_worded(t))])
def test_samples_are_left_out_of_a_task_in_other_words_or_beside_others(
    wrapped: Callable[[Any], Any], task: Own, folder: Path
) -> None:
    broken(folder, 5)
    left = read(wrapped(task), skip=True)[0]
    assert type(left) is type(wrapped(task))
    own: Any = left.tasks[1] if isinstance(left, TaskSet) else left
    assert len(own.rows()) == COUNT - 1
    with pytest.raises(DataError, match="line 5 "):
        read(wrapped(task))


def test_published_tasks_are_left_alone() -> None:
    for task in (VQAV2, TaskSet((VQAV2, VQAV2)), Worded(VQAV2, None, 5)):
        found, count = read(task)
        assert (found, count) == (task, 0)


def test_pictures_are_read_as_models_will_read_them(
    task: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    def noted(file: Path, *, upright: bool = False) -> Any:
        seen.add((file, upright))
        return read_image(file, upright=upright)

    monkeypatch.setattr(pictures, "read_image", noted)
    read(task)
    assert seen == {(sample.image, sample.upright) for sample in task.all}


def test_a_request_says_so_before_anything_is_loaded(tmp_path: Path) -> None:
    data = write(tmp_path / "own", "samples.jsonl", lines(rows(COUNT)))
    write_pictures(data.parent, COUNT)
    asked = StudySpec(model="tiny-llava", task="own", data=str(data), budget="4.0")
    whole = prepare(asked)
    identity = whole.identity
    (data.parent / "7.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"line 8 of samples.jsonl has a picture that"):
        prepare(asked)
    (data.parent / "9.png").unlink()
    left = prepare(replace(asked, skip_broken=True))
    ids = {s.id for own in whole.samples.values() for s in own}
    assert {s.id for own in left.samples.values() for s in own} == ids - {"8", "10"}
    # what is measured is of other samples
    assert left.identity != identity
