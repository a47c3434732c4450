from __future__ import annotations

import pytest

from allocator.core.errors import SpecError
from allocator.core.spec import (
    GRANULARITIES,
    Granularity,
    Group,
    LeftOut,
    Linear,
    ModelSpec,
    build_groups,
    part_of,
)


def linear(name: str = "x", block: int | None = 0, kind: str = "attn") -> Linear:
    return Linear(name, "language", block, kind, 4, 8)


def tower(blocks: int) -> list[Linear]:
    return [
        linear(f"{block}.{kind}", block, kind)
        for block in range(blocks)
        for kind in ("attn", "ff")
    ]


def test_a_group_that_matches_no_linear_raises() -> None:
    with pytest.raises(SpecError, match=r"language\.all\.ff.*matches no linear"):
        Group("language.all.ff", ())


def test_a_group_knows_its_component_and_adds_up_its_weights() -> None:
    group = Group("language.all.attn", (linear("q"), linear("k"), linear("v")))
    assert group.component == "language"
    # three matrices of 4 x 8
    assert group.weights == 96


@pytest.mark.parametrize(
    ("blocks", "sizes"),
    [
        # cuts at floor(n / 3) and floor(2 n / 3)
        (3, (1, 1, 1)),
        (4, (1, 1, 2)),
        (5, (1, 2, 2)),
        (12, (4, 4, 4)),
        (32, (10, 11, 11)),
        (39, (13, 13, 13)),
    ],
)
def test_blocks_are_cut_into_thirds_at_the_floor(
    blocks: int, sizes: tuple[int, int, int]
) -> None:
    front, middle, end = sizes
    assert [part_of(block, blocks) for block in range(blocks)] == [
        *["front"] * front,
        *["middle"] * middle,
        *["end"] * end,
    ]


@pytest.mark.parametrize("blocks", [1, 2])
def test_fewer_than_three_blocks_are_not_split(blocks: int) -> None:
    assert {part_of(block, blocks) for block in range(blocks)} == {"all"}


def test_granularity_decides_how_finely_a_tower_is_split() -> None:
    tables: dict[Granularity, list[str]] = {
        "component": ["language.all.all"],
        "group": ["language.front.all", "language.middle.all", "language.end.all"],
        "type": [
            *("language.front.attn", "language.front.ff"),
            *("language.middle.attn", "language.middle.ff"),
            *("language.end.attn", "language.end.ff"),
        ],
        "block": [
            *("language.00.attn", "language.00.ff", "language.01.attn"),
            *("language.01.ff", "language.02.attn", "language.02.ff"),
        ],
    }
    for granularity, keys in tables.items():
        groups = build_groups(tower(3), granularity)
        assert [group.key for group in groups] == keys
        # whatever the split, each of the six linears is in one group
        assert sum(len(group.linears) for group in groups) == 6


def test_a_linear_without_a_block_is_never_split_by_place() -> None:
    projector = [Linear("p", "connector", None, "all", 4, 8)]
    for granularity in GRANULARITIES:
        groups = build_groups(projector, granularity)
        assert [group.key for group in groups] == ["connector.all.all"]


def test_components_are_cut_by_their_own_number_of_blocks(toy: ModelSpec) -> None:
    # three vision blocks are split, two language blocks are not
    assert toy.keys == (
        *("vision.front.attn", "vision.front.ff", "vision.middle.attn"),
        *("vision.middle.ff", "vision.end.attn", "vision.end.ff"),
        *("connector.all.all", "language.all.attn", "language.all.ff"),
    )


def test_an_unknown_granularity_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match="'layer' is not one of component, group, type"):
        build_groups(tower(3), "layer")  # type: ignore[arg-type]


def test_weights_and_the_rest_add_up_to_the_parameters(toy: ModelSpec) -> None:
    # 3 x (64 x 64 + 128 x 64) + 96 x 64 + 2 x (96 x 96 + 192 x 96)
    assert toy.weights == 36_864 + 6_144 + 55_296 == 98_304
    # a head of 32 x 96 and 1024 others
    assert toy.rest == 3_072 + 1_024


def test_a_linear_placed_in_two_groups_raises_by_name() -> None:
    groups = (Group("language.00.attn", (linear("q"),)), Group("b", (linear("q"),)))
    with pytest.raises(SpecError, match="placed more than once: q"):
        ModelSpec("toy", 100, groups, ())


def test_a_linear_both_grouped_and_left_out_raises_by_name() -> None:
    groups = (Group("language.00.attn", (linear("q"),)),)
    with pytest.raises(SpecError, match="placed more than once: q"):
        ModelSpec("toy", 100, groups, (LeftOut("q", 32, "because"),))


def test_two_groups_of_one_key_raise() -> None:
    groups = (Group("a", (linear("q"),)), Group("a", (linear("k"),)))
    with pytest.raises(SpecError, match="same key"):
        ModelSpec("toy", 100, groups, ())


def blocks_of(
    count: int, attention: list[tuple[int, int]], feed: list[tuple[int, int]]
) -> list[Linear]:
    """`count` blocks, each with attention and feed-forward matrices of these shapes."""
    return [
        Linear(f"{block}.{kind}.{number}", "language", block, kind, *shape)
        for block in range(count)
        for kind, shapes in (("attn", attention), ("ff", feed))
        for number, shape in enumerate(shapes)
    ]


def square(width: int, count: int = 4) -> list[tuple[int, int]]:
    return [(width, width)] * count


def mlp(width: int, inner: int) -> list[tuple[int, int]]:
    return [(inner, width), (width, inner)]


def q_former(feeds: int) -> list[Linear]:
    """12 layers of 768; every second one also reads the 1408 outputs of the ViT."""
    cross = [(768, 768), (768, 768), (768, 1408), (768, 1408)]
    found = blocks_of(12, square(768), mlp(768, 3072) * feeds)
    return found + [
        Linear(f"{block}.cross.{number}", "language", block, "attn", *shape)
        for block in range(0, 12, 2)
        for number, shape in enumerate(cross)
    ]


# sizes as the models' papers and configurations print them; totals as the published
# bits-per-weight figures count them (arXiv 2601.15287 and its repository)
PUBLISHED = {
    "ViT-g: 39 blocks of 1408, inner 6144": (
        blocks_of(39, [(3 * 1408, 1408), (1408, 1408)], mlp(1408, 6144)),
        984_023_040,
    ),
    "Q-Former, the feed-forward of its queries": (q_former(1), 104_988_672),
    "Q-Former for retrieval, that of texts too": (q_former(2), 161_611_776),
    "OPT-2.7B: 32 layers of 2560, inner 10240": (
        blocks_of(32, square(2560), mlp(2560, 10_240)),
        2_516_582_400,
    ),
    "CLIP ViT-L: 24 blocks of 1024, inner 4096": (
        blocks_of(24, square(1024), mlp(1024, 4096)),
        301_989_888,
    ),
    "LLaMA-7B: 32 layers of 4096, gate, up and down of 11008": (
        blocks_of(32, square(4096), [*mlp(4096, 11_008), (11_008, 4096)]),
        6_476_005_376,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_groups_of_a_published_model_hold_the_published_number_of_weights(
    name: str,
) -> None:
    linears, expected = PUBLISHED[name]
    for granularity in GRANULARITIES:
        groups = build_groups(linears, granularity)
        assert ModelSpec("toy", 2 * expected, groups, ()).weights == expected
