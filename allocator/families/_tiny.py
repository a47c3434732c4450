"""Prompts for the random-weight models that tests are run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allocator.core.ports import State

# sizes of a block that every tiny model shares
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
VOCABULARY = 64
IMAGE = 4  # the image token's number


def two_prompts(image: Sequence[int], pixels: Sequence[int]) -> State:
    """Two prompts around one image each, the second padded on the left.

    Args:
        image: the tokens that stand for one image.
        pixels: shape of `pixel_values` for both images.
    """
    import torch

    generator = torch.Generator().manual_seed(1)
    texts = [[*image, 1, 7, 8, 9], [0, *image, 1, 7, 9]]
    return {
        "pixel_values": torch.randn(*pixels, generator=generator),
        "input_ids": torch.tensor(texts),
        "attention_mask": torch.tensor(
            [[1] * len(texts[0]), [0, *[1] * len(texts[1][1:])]]
        ),
    }
