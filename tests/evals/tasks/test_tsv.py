from __future__ import annotations

import base64
import re
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from allocator.core.errors import AllocateError, DataError
from allocator.core.own import Wishes
from allocator.core.ports import SPLITS, Selection
from evals.splits import check_disjoint
from evals.tasks.tsv import PLUGIN
from tests.evals.benchmark_folders import Asked, tsv_rows, write_tsv
from tests.evals.own_files import digests, picture

if TYPE_CHECKING:
    from pathlib import Path

N_PICTURES = 50
Rows = list[dict[str, str]]


def rows(**cells: str) -> Rows:
    """Two questions on each of 50 pictures, all with these cells."""
    asked = [
        Asked(number, picture(number), f"Is it {number} {kind}?", f"{kind} {number}")
        for number in range(N_PICTURES)
        for kind in ("red", "big")
    ]
    return [{**row, **cells} for row in tsv_rows(asked)]


def changed(row: int, **cells: str) -> Rows:
    """Rows of which one, as a spreadsheet counts it, has other cells."""
    found = rows()
    found[row - 2] |= cells
    return found


def opened(tmp_path: Path, content: Rows, metric: str | None = None) -> Any:
    file = tmp_path / "bench.tsv"
    write_tsv(file, content)
    return PLUGIN.opened(file, Wishes(tmp_path / "cache", metric), digests)


def refusal(tmp_path: Path, content: Rows, metric: str | None = None) -> str:
    with pytest.raises(AllocateError) as refused:
        opened(tmp_path, content, metric)
    return str(refused.value)


def whole(task: Any) -> dict[str, Any]:
    """Every sample, by its index."""
    samples = task.samples(None, "evaluation", Selection(0, 1.0))
    return {sample.id: sample for sample in samples}


def test_a_row_is_asked_as_llava_asks_it(tmp_path: Path) -> None:
    content = changed(3, hint="It is a toy.", C="neither", D="nan")
    content = [{"D": "", **row} for row in content]
    task = opened(tmp_path, content)
    sample = whole(task)["201"]
    assert sample.text == (
        "It is a toy.\nIs it 0 big?\nA. not big 0\nB. big 0\nC. neither\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert sample.choices == ("not big 0", "big 0", "neither")
    assert (sample.prompt, sample.references, sample.upright) == (
        "plain",
        ("B",),
        False,
    )
    assert task.summary.metric == "choice"


def test_no_hint_is_none_and_a_choice_may_be(tmp_path: Path) -> None:
    content = [{**row, "C": "None"} for row in changed(2, hint="None")]
    sample = whole(opened(tmp_path, content))["200"]
    assert sample.text.startswith("Is it 0 red?\n")
    assert sample.choices[2] == "None"


def test_pictures_are_kept_and_those_of_other_rows_found(tmp_path: Path) -> None:
    samples = whole(opened(tmp_path, rows()))
    assert len(samples) == 2 * N_PICTURES
    for number in range(N_PICTURES):
        first, second = (samples[str(200 + 2 * number + i)] for i in (0, 1))
        assert first.image == second.image
        assert first.image.read_bytes() == picture(number)


def test_few_pictures_are_in_memory_at_a_time(tmp_path: Path) -> None:
    size = 200_000
    # what begins like a picture is looked at when a model is shown it
    heads = [picture(0)[:8] + bytes([n]) for n in range(N_PICTURES)]
    asked = [Asked(0, head.ljust(size, b"."), "What is it?", "a") for head in heads]
    file = tmp_path / "bench.tsv"
    write_tsv(file, tsv_rows(asked))
    tracemalloc.start()
    try:
        PLUGIN.opened(file, Wishes(tmp_path / "cache"), digests)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # all of them are 10 MB, in base64 13, and a cell is copied about ten times
    assert peak < N_PICTURES * size / 2
    assert len(list((tmp_path / "cache").iterdir())) == N_PICTURES


def test_an_index_may_be_of_a_row_further_down(tmp_path: Path) -> None:
    content = rows()[::-1]
    samples = whole(opened(tmp_path, content))
    assert samples["200"].image == samples["201"].image


def test_pictures_are_set_aside_by_their_content(tmp_path: Path) -> None:
    content = rows()
    # the same picture once more, in base64
    content[1]["image"] = content[0]["image"]
    task = opened(tmp_path, content)
    found = {split: task.samples(None, split, Selection()) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [10, 30, 50]
    check_disjoint(**found)
    said = " ".join(task.summary.remarks)
    assert "no training part: half of its pictures" in said
    assert "category" not in said
    assert "hint" not in said


def test_a_fraction_is_a_share_of_the_whole_file(tmp_path: Path) -> None:
    task = opened(tmp_path, rows())
    sizes = [
        len(task.samples(None, "evaluation", Selection(0, fraction)))
        for fraction in (0.1, 0.5, 1.0)
    ]
    assert sizes == [10, 50, 100]
    with pytest.raises(DataError, match="has 50 of 100 rows for evaluation, not a fr"):
        task.samples(None, "evaluation", Selection(0, 0.6))
    with pytest.raises(DataError, match=r"not a fraction of 1\.0"):
        task.samples(None, "search", Selection(0, 1.0))


def test_accuracy_is_given_by_category(tmp_path: Path) -> None:
    task = opened(tmp_path, rows())
    # rows in turn are of group 0 and 1
    samples = [whole(task)[index] for index in ("200", "201", "202")]
    score = task.score(["B", "A", "the answer is A"], samples)
    assert score.values == (100.0, 0.0, 0.0)
    assert score.details == {"group 0": 50.0, "group 1": 0.0}


def test_many_categories_are_left_out(tmp_path: Path) -> None:
    content = rows()
    for number, row in enumerate(content):
        row["l2-category"] = str(number)
    task = opened(tmp_path, content)
    samples = list(whole(task).values())[:3]
    assert task.score(["B"] * 3, samples).details == {}


def test_rows_that_turn_choices_round_are_samples_by_themselves(
    tmp_path: Path,
) -> None:
    content = rows()
    turned = {"index": "1000200", "image": "200", "A": content[0]["B"], "answer": "A"}
    content.append({**content[0], **turned, "B": content[0]["A"]})
    task = opened(tmp_path, content)
    assert whole(task)["1000200"].references == ("A",)
    assert any("1 rows turn the choices" in each for each in task.summary.remarks)


def test_an_answer_is_a_letter_even_if_choices_are_letters(tmp_path: Path) -> None:
    task = opened(tmp_path, changed(2, A="B", B="A", answer="A"))
    assert whole(task)["200"].references == ("A",)


def test_without_choices_the_answers_decide_how_it_is_scored(tmp_path: Path) -> None:
    content = [
        {**row, "A": "", "B": "", "answer": f"['{row['B']}', 'another']"}
        for row in rows()
    ]
    task = opened(tmp_path, content)
    sample = whole(task)["201"]
    assert (sample.text, sample.prompt) == ("Is it 0 big?", "vqa")
    assert sample.references == ("big 0", "another")
    assert task.summary.metric == "exact"
    assert opened(tmp_path, content, "anls").summary.metric == "anls"


def test_a_file_without_answers_is_for_agreement_alone(tmp_path: Path) -> None:
    content = rows(answer="nan")
    said = refusal(tmp_path, content)
    assert said.startswith("bench.tsv has no answers")
    assert "--metric agreement" in said
    for row in content:
        del row["answer"]
    assert refusal(tmp_path, content) == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed(5, image="17"), "'image' in row 5 .* 17, and no row of that index"),
        (
            changed(2, image="iVBORw0KGgo" + "A" * 80),
            "'image' in row 2 .* damaged|no pic",
        ),
        (changed(2, image="/9j/" + "!" * 80), "'image' in row 2 "),
        (changed(5, image=""), "'image' in row 5 .* nothing for a picture"),
        (changed(5, image="['aa', 'bb']"), "'image' in row 5 .* has 2 pictures"),
        (changed(5, answer="E"), "'answer' in row 5 .* none of the choices"),
        (changed(5, answer=""), "'answer' in row 5 .* is empty"),
        (changed(5, A=""), "'A' in row 5 .* is empty, and a choice behind"),
        (changed(5, A="", B=""), "'B' in row 5|'A' in row 5"),
        (changed(5, question=""), "'question' in row 5 .* is empty"),
        (changed(5, index="201"), "'index' in row 5 .* is '201', as in row 3"),
        (rows()[:30], "bench.tsv has 30 samples"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, content: Rows, said: str) -> None:
    assert re.search(said, refusal(tmp_path, content))


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bench.jsonl").write_text("{}")
    with pytest.raises(DataError, match=r"bench\.jsonl is of no kind .*: \.tsv"):
        PLUGIN.opened(tmp_path / "bench.jsonl", Wishes(tmp_path), digests)


def test_one_picture_in_a_list_is_that_picture(tmp_path: Path) -> None:
    held = base64.b64encode(picture(0)).decode()
    samples = whole(opened(tmp_path, changed(2, image=f"['{held}']")))
    assert samples["200"].image.read_bytes() == picture(0)
