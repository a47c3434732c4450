"""The embedded models keep the promises that make them worth searching."""

from __future__ import annotations

import hashlib
from random import Random
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

from allocator.core.allocation import Allocation, Choice, Scheme, bits_per_weight
from allocator.embedded import HERE, embedded_models
from allocator.families import family_of
from evals.world.example import example_scenes
from evals.world.files import COCO, FLICKR, GQA_PARTS, part_scenes
from evals.world.language import GQA, NAMES, VQA, ask, captions
from evals.world.scene import draw_scene, jpeg

if TYPE_CHECKING:
    from allocator.core.spec import ModelSpec

# pictures `studies/embedded/train.py` draws, from the random stream of its seed
TRAINED_ON, STREAM = 48_000, "train/0"


@pytest.fixture(params=embedded_models(), scope="module")
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    folder = HERE / request.param
    return family_of(folder).spec(folder)


def test_there_are_two_models() -> None:
    assert embedded_models() == ("tiny-blip2", "tiny-llava")


@pytest.mark.parametrize("name", embedded_models())
def test_a_model_takes_at_most_six_megabytes(name: str) -> None:
    assert sum(f.stat().st_size for f in (HERE / name).rglob("*.safetensors")) <= 6e6


def test_at_most_a_tenth_of_the_parameters_lies_outside_the_groups(
    spec: ModelSpec,
) -> None:
    assert spec.rest <= 0.1 * spec.parameters


def test_every_quantized_input_width_is_a_multiple_of_64(spec: ModelSpec) -> None:
    assert all(linear.in_features % 64 == 0 for linear in spec.linears)


def test_a_budget_of_four_leaves_room_to_choose(spec: ModelSpec) -> None:
    sizes = [
        bits_per_weight(spec, Scheme(), Allocation.uniform(spec, Choice(b, "gptq")))
        for b in (2, 3, 4, 5, 6, 8)
    ]
    below = max(size for size in sizes if size <= 4.0)
    assert below <= 3.8
    assert max(sizes) > 4.0


def test_the_retrieval_twin_shares_tower_queries_and_q_former() -> None:
    folder = HERE / "tiny-blip2"
    shared = 0
    with (
        safe_open(folder / "model.safetensors", framework="pt") as model,
        safe_open(folder / "retrieval" / "model.safetensors", framework="pt") as twin,
    ):
        in_twin = set(twin.keys())
        for name in model.keys():  # noqa: SIM118, not a mapping
            if name.startswith(("vision_model.", "qformer.", "query_tokens")):
                assert model.get_tensor(name).equal(twin.get_tensor(name)), name
                shared += 1
    assert shared > 100
    assert {"itm_head.weight", "text_projection.weight"} <= in_twin


@pytest.mark.parametrize("name", embedded_models())
def test_the_tokenizer_knows_every_word_of_the_world(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(HERE / name)
    random, said = Random(0), list(NAMES.values())
    for _ in range(500):
        scene = draw_scene(random)
        said += captions(scene)
        for kinds in (VQA, GQA):
            question = ask(scene, random, kinds)
            said += [question.text, question.answer]
    ids = tokenizer(said).input_ids
    assert tokenizer.unk_token_id not in {token for row in ids for token in row}
    decoded = tokenizer.batch_decode(tokenizer(list(NAMES.values())).input_ids)
    assert [text.removeprefix("<s>").strip() for text in decoded] == list(
        NAMES.values()
    )


@pytest.mark.slow
def test_no_picture_of_any_split_was_trained_on() -> None:
    random = Random(STREAM)
    trained = {
        hashlib.sha1(jpeg(draw_scene(random))).digest() for _ in range(TRAINED_ON)
    }
    worlds = {"coco": COCO, "gqa": GQA_PARTS, "flickr30k": FLICKR}
    for world, parts in worlds.items():
        for part in parts:
            shown = {
                hashlib.sha1(jpeg(scene)).digest()
                for _, scene in part_scenes(world, part)
            }
            assert not shown & trained, (world, part.name)
    own = {hashlib.sha1(jpeg(scene)).digest() for _, scene in example_scenes()}
    assert not own & trained
