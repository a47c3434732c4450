"""Names in files stay in the folders of these, but for what is documented otherwise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.bench.contents import Contents
from allocator.bench.sums import SUMS, check_sums
from allocator.core.bounded import leaves
from allocator.core.errors import BankError, DataError, ModelError
from allocator.core.plan import FINALIZED, Plan
from allocator.core.ports import Selection
from allocator.families import INDEX, weight_files
from evals.tasks._official import placed
from quant.bank import MANIFEST, read_manifest
from tests.evals.layouts import LAYOUTS
from tests.evals.own_files import COUNT, opened, picture, rows, write

if TYPE_CHECKING:
    from pathlib import Path

OUT = ("../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "..\\secret.jpg")
# where official files name pictures
NAMED = {
    "gqa": "imageId",
    "coco": "file_name",
    "coco-karpathy": "filename",
    "flickr30k": "filename",
    "docvqa": "image",
    "chartqa": "imgname",
    "pope": "image",
    "textvqa": "image_id",
}


@pytest.mark.parametrize("name", OUT)
def test_a_name_that_leads_out_is_told(name: str, tmp_path: Path) -> None:
    assert leaves(name)
    with pytest.raises(DataError, match="outside its folder"):
        placed(tmp_path, name, "a.json")


@pytest.mark.parametrize("name", ["a.jpg", "documents/a.png", "a..b.jpg", "...", "a b"])
def test_a_name_within_a_folder_is_not(name: str, tmp_path: Path) -> None:
    assert placed(tmp_path, name, "a.json") == tmp_path / name


def renamed(value: Any, key: str) -> Any:
    """The same data, every picture of which is above the folder."""
    if isinstance(value, dict):
        return {
            k: f"../../../{v}" if k == key else renamed(v, key)
            for k, v in value.items()
        }
    return [renamed(each, key) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "layout", LAYOUTS, ids=lambda each: f"{each.task}-{each.subset}"
)
def test_no_official_file_names_a_picture_elsewhere(
    layout: Any, tmp_path: Path
) -> None:
    key = NAMED.get(f"{layout.task}-{layout.subset}", NAMED.get(layout.task))
    if key is None:
        pytest.skip("its pictures go by numbers")
    data = tmp_path / "data"
    layout.write(data, layout.parts)
    (tmp_path / "secret.jpg").write_bytes(picture(1))
    for file in layout.files:
        content = file.read(data)
        file.write(data, renamed(content, key))
        with pytest.raises(DataError) as refused:
            layout.samples(data, file.split)
        assert "outside its folder" in str(refused.value)
        file.write(data, content)


@pytest.mark.parametrize("name", OUT)
def test_checksums_and_an_index_list_files_of_their_folder_alone(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / SUMS).write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(ModelError, match="no file below it"):
        check_sums(tmp_path, [], Contents())
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    if "/" in name:
        with pytest.raises(ModelError, match="no file beside it"):
            weight_files(tmp_path)


def test_a_manifest_names_files_of_its_bank_alone(tmp_path: Path) -> None:
    for name in ("../other", "/tmp/other", "a/b"):
        (tmp_path / MANIFEST).write_text(json.dumps({"linears": {name: {}}}))
        with pytest.raises(BankError, match="names files elsewhere"):
            read_manifest(tmp_path)


def test_a_plan_says_no_place_of_its_weights(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    plan = {"model": "m", "groups": {}, "finalized": "../../elsewhere"}
    file.write_text(json.dumps(plan))
    # they lie in one folder beside it, and what it says is only compared with theirs
    assert Plan.read(file).finalized == "../../elsewhere"
    assert "/" not in FINALIZED


def test_pictures_of_a_file_of_ones_own_lie_where_it_says(tmp_path: Path) -> None:
    # it is the user's own word where they are: documented in evals/README.md
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "data"
    write(elsewhere, "other.txt", "")
    found = rows()
    for at in range(COUNT):
        place = elsewhere / f"{at}.png"
        found[at]["image"] = str(place) if at % 2 else f"../elsewhere/{at}.png"
    folder.mkdir()
    (folder / "samples.json").write_text(json.dumps(found))
    samples = opened(folder).samples(folder, "evaluation", Selection())
    assert {each.image.resolve().parent for each in samples} == {elsewhere}


def test_pictures_may_be_links_as_caches_make_them(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write(store, "other.txt", "")
    (tmp_path / "data").mkdir()
    for at in range(COUNT):
        (tmp_path / "data" / f"{at}.png").symlink_to(store / f"{at}.png")
    file = tmp_path / "data" / "samples.json"
    file.write_text(json.dumps(rows()))
    assert opened(file).samples(file, "search", Selection())
